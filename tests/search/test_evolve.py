"""Evolution against random search, greedy steps, the integer program and trying everything."""

import itertools
import os
import time

import numpy as np
import pytest

from pock_tvm.search.baselines import greedy, solve
from pock_tvm.search.cost_model import CostModel, probes
from pock_tvm.search.evolve import evolve, search_at_random
from pock_tvm.search.objective import Budget, Gains, Objective
from pock_tvm.search.space import Choice, Space


def _space(layers):
    return Space(
        weights=tuple(f"{i}.weight" for i in range(layers)),
        biases=tuple(f"{i}.bias" for i in range(layers)),
        always=("head.weight",),
        depths=tuple(layers - i for i in range(layers)),
    )


def _true_cost(space, choice, sizes):
    """A made-up device: state and kept inputs add up, time grows with depth."""
    depth = max(
        [choice.biases, *(d for d, r in zip(space.depths, choice.ratios, strict=True) if r)]
    )
    shares = [0.0, *map(float, space.ratios)]
    learned = sum(size * shares[r] for size, r in zip(sizes, choice.ratios, strict=True))
    return 1000.0 + learned + choice.biases, 500.0 + 10 * depth + 2 * learned, 1 + depth + learned


def _objective(layers, seed, **budget):
    space = _space(layers)
    generator = np.random.default_rng(seed)
    sizes = generator.uniform(5, 60, layers)
    planned = {c: _true_cost(space, c, sizes) for c in probes(space)}
    gains = generator.normal(0.3, 1, (layers, 1)) * np.array([0, 0.5, 0.7, 0.9, 1.0])
    biases = np.concatenate([[0.0], np.cumsum(generator.normal(0.05, 0.1, layers))])
    model = CostModel.fit(space, planned)
    return space, sizes, Objective(Gains(biases, gains), model, Budget(**budget))


def test_the_model_of_a_cost_that_is_a_sum_has_it_exactly():
    space, sizes, objective = _objective(6, 0)
    generator = np.random.default_rng(1)
    population = generator.integers(0, space.extents, (50, len(space.extents))).astype(np.int16)
    costs = objective.costs(population)
    truth = np.array([_true_cost(space, Choice.of(row), sizes) for row in population])
    np.testing.assert_allclose(costs[:, 0], truth[:, 0], rtol=1e-9)
    np.testing.assert_allclose(costs[:, 1:], truth[:, 1:], rtol=0.02)


def test_every_way_of_searching_finds_the_best_of_a_small_space():
    space, _, objective = _objective(3, 5, transient_bytes=640.0, step_ms=50.0)
    everything = np.array(list(itertools.product(*map(range, space.extents))), np.int16)
    best = objective.fitness(everything).max()
    found = evolve(space, objective, samples=3000, seed=0)
    assert found.best[0][1] == pytest.approx(best)
    assert objective.fitness(solve(space, objective).genes()[None])[0] == pytest.approx(best)
    assert objective.fitness(greedy(space, objective).genes()[None])[0] <= best
    assert objective.budget.admits(tuple(objective.costs(found.best[0][0].genes()[None])[0]))


def test_evolution_beats_random_search_on_five_seeds_and_reaches_the_optimum_of_the_program():
    better = 0
    for seed in range(5):
        space, _, objective = _objective(20, seed, transient_bytes=1100.0, step_ms=180.0)
        ours = evolve(space, objective, samples=4000, seed=seed)
        theirs = search_at_random(space, objective, samples=4000, seed=seed)
        assert ours.curve[-1][0] == theirs.curve[-1][0] == 4000
        better += ours.best[0][1] >= theirs.best[0][1]
        optimum = objective.fitness(solve(space, objective).genes()[None])[0]
        assert ours.best[0][1] <= optimum + 1e-9
        assert ours.best[0][1] >= 0.9 * optimum
    assert better >= 4


def test_the_solver_prints_nothing(capfd):
    os.write(1, b"before\n")
    for seed in (0, 1):  # HiGHS has a line to say about the first
        space, _, objective = _objective(60, seed, transient_bytes=1100.0, step_ms=180.0)
        assert solve(space, objective) is not None
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "before\nafter\n"


def test_what_is_found_follows_the_seed():
    space, _, objective = _objective(8, 2, transient_bytes=800.0)
    first, again, other = (evolve(space, objective, samples=800, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first.curve != other.curve


def test_a_planned_cost_takes_the_place_of_the_models():
    space, _, objective = _objective(4, 0, transient_bytes=900.0)
    best = evolve(space, objective, samples=800, seed=0).best[0][0]
    dearer = Objective(
        objective.gains, objective.model, objective.budget, {best: (1000.0, 2000.0, 1.0)}
    )
    assert dearer.fitness(best.genes()[None])[0] < -999
    assert evolve(space, dearer, samples=800, seed=0).best[0][0] != best


def test_a_budget_that_nothing_keeps_finds_nothing():
    space, _, objective = _objective(4, 0, transient_bytes=10.0)
    assert not evolve(space, objective, samples=400, seed=0).best
    assert solve(space, objective) is None


def test_twenty_thousand_samples_of_a_deep_net_take_seconds():
    space, _, objective = _objective(60, 0, transient_bytes=2000.0)
    started = time.process_time()  # of this process: the machine is shared
    evolve(space, objective, samples=20_000, seed=0)
    assert time.process_time() - started < 60

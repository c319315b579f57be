"""The same search without evolution: greedy, and as an integer linear program."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pock_tvm.search.objective import Objective
from pock_tvm.search.space import Choice, Space

SECONDS = 20.0
"""What the solver of the program may take."""


def greedy(space: Space, objective: Objective) -> Choice:
    """Begin with the head alone; change the one gene that raises the value most, while one does."""
    current = space.nothing.genes()
    value = float(objective.fitness(current[None])[0])
    while True:
        neighbours = []
        for gene, extent in enumerate(space.extents):
            for allele in range(extent):
                if allele != current[gene]:
                    one = current.copy()
                    one[gene] = allele
                    neighbours.append(one)
        population = np.stack(neighbours)
        fitness = objective.fitness(population)
        best = int(np.argmax(fitness))
        if fitness[best] <= value:
            return Choice.of(current)
        current, value = population[best], float(fitness[best])


def solve(space: Space, objective: Objective) -> Choice | None:
    """Return the best choice by the model of costs, to optimality; None where none fits.

    One binary for each number of last biases, each ratio of each weight, and each depth of the
    backward pass; a weight or a number of biases may learn only where the depth reaches it.

    Raises:
        ImportError: SciPy is not installed.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    model, gains, budget = objective.model, objective.gains, objective.budget
    count, weights, ratios = len(space.biases) + 1, len(space.weights), len(space.ratios)
    one, down, added, over = model.coefficients
    size = count + count + weights * ratios  # y_k, z_d, x_ir
    value = np.concatenate([gains.biases, np.zeros(count), gains.weights[:, 1:].ravel()])
    costs = np.concatenate(
        [
            -over * model.depth,
            one + (down + over) * model.depth,
            (added * model.margins[:, 1:]).reshape(-1, 3),
        ]
    )
    constraints = []
    for first, length in ((0, count), (count, count)):
        row = np.zeros(size)
        row[first : first + length] = 1
        constraints.append(LinearConstraint(row[None], 1, 1))
    for weight in range(weights):  # Σ_r x_ir ≤ Σ_{d ≥ depth} z_d
        row = np.zeros(size)
        start = 2 * count + weight * ratios
        row[start : start + ratios] = 1
        row[count + space.depths[weight] : 2 * count] = -1
        constraints.append(LinearConstraint(row[None], -np.inf, 0))
    for biases in range(count):  # y_k ≤ Σ_{d ≥ k} z_d
        row = np.zeros(size)
        row[biases] = 1
        row[count + biases : 2 * count] = -1
        constraints.append(LinearConstraint(row[None], -np.inf, 0))
    limits = (
        (budget.total_bytes, costs[:, 0] + costs[:, 1]),
        (budget.transient_bytes, costs[:, 1]),
        (budget.step_ms, costs[:, 2]),
    )
    constraints += [
        LinearConstraint(cost[None] / limit, -np.inf, 1)
        for limit, cost in limits
        if limit is not None
    ]
    with _without_lines_of_the_solver():
        solution = milp(
            -value,
            constraints=constraints,
            integrality=np.ones(size),
            bounds=Bounds(0, 1),
            options={"time_limit": SECONDS},
        )
    if solution.x is None:
        return None
    taken = solution.x > 0.5
    picked = taken[2 * count :].reshape(weights, ratios)
    genes = np.where(picked.any(axis=1), picked.argmax(axis=1) + 1, 0)
    return Choice(int(taken[:count].argmax()), tuple(map(int, genes)))


@contextmanager
def _without_lines_of_the_solver() -> Iterator[None]:
    """Keep what HiGHS prints of its own accord, by C's printf, out of our standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)

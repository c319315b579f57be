"""Search for the best choice: by evolution (as PockEngine does), and at random beside it."""

from dataclasses import dataclass

import numpy as np

from pock_tvm.search.objective import Objective, feasible
from pock_tvm.search.space import Choice, Space

POPULATION = 200
ELITE = 20
PARENTS = 60
KEPT = 50
"""Best choices that a search hands back."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came upon."""

    best: tuple[tuple[Choice, float], ...]
    """Distinct choices within the budgets and their fitness, the best first."""
    curve: tuple[tuple[int, float | None], ...]
    """(samples looked at, best fitness so far)."""


class _Archive:
    """The best choices so far, and how that went."""

    def __init__(self) -> None:
        self.best: dict[bytes, float] = {}
        self.samples = 0
        self.curve: list[tuple[int, float | None]] = []

    def add(self, population: np.ndarray, fitness: np.ndarray) -> None:
        self.samples += len(population)
        for row in np.flatnonzero(feasible(fitness)):
            self.best[population[row].tobytes()] = float(fitness[row])
        if len(self.best) > 4 * KEPT:
            self.best = dict(self._sorted()[:KEPT])
        self.curve.append((self.samples, max(self.best.values(), default=None)))

    def found(self) -> Found:
        best = self._sorted()[:KEPT]
        choices = tuple((Choice.of(np.frombuffer(row, np.int16)), value) for row, value in best)
        return Found(best=choices, curve=tuple(self.curve))

    def _sorted(self) -> list[tuple[bytes, float]]:
        return sorted(self.best.items(), key=lambda item: (-item[1], item[0]))


def evolve(space: Space, objective: Objective, *, samples: int, seed: int) -> Found:
    """Let a population of choices compete, cross and mutate.

    Each generation keeps the elite; the others are children of two of the best: each gene from one
    or the other, then about one gene drawn anew.
    """
    generator = np.random.default_rng([seed, 0])
    size = max(4, min(POPULATION, samples))
    archive = _Archive()
    population = draw(space, size, generator)
    population[0] = space.nothing.genes()  # what costs least is among them
    fitness = objective.fitness(population)
    archive.add(population, fitness)
    elite, parents = max(1, size * ELITE // POPULATION), max(2, size * PARENTS // POPULATION)
    while archive.samples < samples:
        order = np.argsort(-fitness, kind="stable")
        kept = order[:elite]
        count = min(size, samples - archive.samples)
        mates = order[generator.integers(0, parents, (2, count))]
        shape = (count, population.shape[1])
        children = np.where(
            generator.random(shape) < 0.5, population[mates[0]], population[mates[1]]
        )
        children = _mutated(children, space, generator)
        values = objective.fitness(children)
        archive.add(children, values)
        population = np.concatenate([population[kept], children])
        fitness = np.concatenate([fitness[kept], values])
    return archive.found()


def search_at_random(space: Space, objective: Objective, *, samples: int, seed: int) -> Found:
    """Draw choices, dense and sparse ones alike."""
    generator = np.random.default_rng([seed, 1])
    archive = _Archive()
    while archive.samples < samples:
        population = draw(space, min(POPULATION, samples - archive.samples), generator)
        archive.add(population, objective.fitness(population))
    return archive.found()


def draw(space: Space, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw choices of which a share learns that is itself drawn."""
    genes = generator.integers(0, space.extents, (count, len(space.extents)))
    density = generator.random((count, 1))
    kept = generator.random(genes[:, 1:].shape) < density
    genes[:, 1:] *= kept
    return genes.astype(np.int16)


def _mutated(children: np.ndarray, space: Space, generator: np.random.Generator) -> np.ndarray:
    """Draw about one gene of each anew; the number of biases may also move by a little."""
    anew = generator.integers(0, space.extents, children.shape)
    chosen = generator.random(children.shape) < 1.0 / children.shape[1]
    mutated = np.where(chosen, anew, children)
    # To let a weight rest is the move that makes room: as likely as all others together.
    rest = (generator.random(children.shape) < 0.5 / children.shape[1]) & (children > 0)
    rest[:, 0] = False
    mutated[rest] = 0
    nudge = generator.integers(-2, 3, len(children)) * (generator.random(len(children)) < 0.3)
    mutated[:, 0] = np.clip(mutated[:, 0] + nudge, 0, len(space.biases))
    return mutated.astype(np.int16)

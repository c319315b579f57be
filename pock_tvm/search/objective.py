"""What a search maximises: the sum of contributions, under budgets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pock_tvm.search.cost_model import Cost, CostModel
from pock_tvm.search.space import Choice

_BELOW_ALL = -1e3
"""What a choice beyond a budget is worth, before its excess is taken off."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a step may cost; None is no limit."""

    total_bytes: float | None = None
    """Weights, optimizer state and transients together."""
    transient_bytes: float | None = None
    step_ms: float | None = None

    def excess(self, costs: np.ndarray) -> np.ndarray:
        """Return by which share of a budget each row of costs lies beyond, 0 where within all."""
        limits = (
            (self.total_bytes, costs[:, 0] + costs[:, 1]),
            (self.transient_bytes, costs[:, 1]),
            (self.step_ms, costs[:, 2]),
        )
        beyond = np.zeros(len(costs))
        for limit, cost in limits:
            if limit is not None:
                beyond += np.maximum(0.0, cost / max(limit, 1e-9) - 1.0)
        return beyond

    def admits(self, cost: Cost) -> bool:
        """Tell whether one choice keeps all budgets."""
        return not self.excess(np.array([cost]))[0]


@dataclass(frozen=True)
class Gains:
    """Contributions, as arrays by gene."""

    biases: np.ndarray
    """(1 + biases,): of the last k."""
    weights: np.ndarray
    """(weights, 1 + ratios): zero where a weight stays as it is."""

    def of(self, population: np.ndarray) -> np.ndarray:
        """Return the sum of each row's contributions."""
        places = np.arange(len(self.weights))
        genes = population.astype(int)
        return self.biases[genes[:, 0]] + self.weights[places, genes[:, 1:]].sum(axis=1)


@dataclass(frozen=True)
class Objective:
    """Values and costs of a population; a planned choice has its planned cost."""

    gains: Gains
    model: CostModel
    budget: Budget
    planned: Mapping[Choice, Cost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = {choice.genes().tobytes(): cost for choice, cost in self.planned.items()}
        object.__setattr__(self, "_planned_rows", rows)

    def costs(self, population: np.ndarray) -> np.ndarray:
        """Return (choices, 3), see ``CostModel.costs``."""
        costs = self.model.costs(population)
        known: dict[bytes, Cost] = self._planned_rows  # type: ignore[attr-defined]  # made above
        for row, genes in enumerate(np.ascontiguousarray(population, np.int16)):
            cost = known.get(genes.tobytes())
            if cost is not None:
                costs[row] = cost
        return costs

    def fitness(self, population: np.ndarray) -> np.ndarray:
        """Return the sum of contributions; beyond a budget less than anything within, by excess."""
        excess = self.budget.excess(self.costs(population))
        return np.where(excess > 0, _BELOW_ALL - excess, self.gains.of(population))


def feasible(fitness: np.ndarray) -> np.ndarray:
    """Tell which of a population keep their budgets."""
    return fitness > _BELOW_ALL

"""What a scheme costs, in microseconds of thought, for the thousands that a search looks at.

The model has the shape of the cost itself. Of a step's bytes and time

    D(d)    is what the backward pass down to depth d costs, d the deepest thing that learns;
    m(w, r) what weight w at ratio r adds to that: its input kept, its gradient, its state;
    D(d) - D(k)  what the biases between the k that learn and d would have cost: too much.

D and m are differences of *planned* schemes. Bytes of weights and state are such sums. Transients
are the largest of many live sets, which no sum can be, and kernels fuse in other ways where other
things learn: there the terms get coefficients by least squares over all schemes planned so far. The
search plans its best candidates for real, refits, and goes on until the best one is a scheme that
was planned; what it reports are planned costs, never the model's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pock_tvm.search.space import Choice, Space

Cost = tuple[float, float, float]
"""Resident bytes, transient bytes, milliseconds."""

ANCHORS = 10
"""Depths that are planned at the most; costs between them are interpolated."""
MARGIN_RATIOS = (Fraction(1, 4), Fraction(1))
"""Ratios at which each weight is planned; others are interpolated."""


def probes(space: Space) -> list[Choice]:
    """Return the schemes whose costs the model is made of."""
    anchors = anchor_depths(space)
    found = [Choice(depth, space.nothing.ratios) for depth in anchors]
    for weight, depth in enumerate(space.depths):
        found.append(Choice(depth, space.nothing.ratios))
        found += [
            space.with_weight(weight, 1 + space.ratios.index(ratio), depth)
            for ratio in MARGIN_RATIOS
            if ratio in space.ratios
        ]
    found.append(Choice(len(space.biases), (len(space.ratios),) * len(space.weights)))
    return list(dict.fromkeys(found))


def anchor_depths(space: Space) -> list[int]:
    """Return evenly spaced numbers of last biases, none and all among them."""
    most = len(space.biases)
    return sorted({round(i * most / (ANCHORS - 1)) for i in range(ANCHORS)})


@dataclass(frozen=True)
class CostModel:
    """Costs of choices, many at a time."""

    space: Space
    depth: np.ndarray
    """(1 + biases, 3): D."""
    margins: np.ndarray
    """(weights, 1 + ratios, 3): m, zero where a weight stays as it is."""
    coefficients: np.ndarray
    """(4, 3): of one, D, Σ m, D(d) - D(k)."""

    @classmethod
    def fit(cls, space: Space, planned: Mapping[Choice, Cost]) -> "CostModel":
        """Make the model of planned schemes, all of ``probes`` among them."""
        nothing = space.nothing.ratios
        at = sorted(c.biases for c in planned if c.ratios == nothing)
        depth = np.stack(
            [
                np.interp(
                    np.arange(len(space.biases) + 1),
                    at,
                    [planned[Choice(d, nothing)][i] for d in at],
                )
                for i in range(3)
            ],
            axis=1,
        )
        shares = [0.0, *map(float, space.ratios)]
        margins = np.zeros((len(space.weights), len(shares), 3))
        for weight, below in enumerate(space.depths):
            base = np.array(planned[Choice(below, nothing)])
            known = {0: np.zeros(3)}
            for position in range(1, len(shares)):
                cost = planned.get(space.with_weight(weight, position, below))
                if cost is not None:
                    known[position] = np.array(cost) - base
            xs = [shares[p] for p in known]
            for i in range(3):
                margins[weight, :, i] = np.interp(shares, xs, [m[i] for m in known.values()])
        sums = np.array([[0.0] * 3, [1.0] * 3, [1.0] * 3, [-1.0, 0.0, 0.0]])
        model = cls(space, depth, margins, sums)
        return model._refitted(planned)

    def costs(self, population: np.ndarray) -> np.ndarray:
        """Return (choices, 3): resident and transient bytes, milliseconds."""
        return np.einsum("fnc,fc->nc", self._features(population), self.coefficients)

    def _features(self, population: np.ndarray) -> np.ndarray:
        """Return (4, choices, 3)."""
        genes = population[:, 1:].astype(int)
        biases = population[:, 0].astype(int)
        depths = np.array(self.space.depths, int)
        reached = np.where(genes > 0, depths, 0).max(axis=1, initial=0)
        deepest = np.maximum(biases, reached)
        added = self.margins[np.arange(len(depths)), genes].sum(axis=1)
        down = self.depth[deepest]
        return np.stack([np.ones_like(down), down, added, down - self.depth[biases]])

    def _refitted(self, planned: Mapping[Choice, Cost]) -> "CostModel":
        """Return the model with coefficients that suit all planned schemes best."""
        population = np.stack([choice.genes() for choice in planned])
        costs = np.array(list(planned.values()), float)
        features = self._features(population)
        coefficients = self.coefficients.copy()
        for i in (1, 2):
            scale = np.abs(features[:, :, i]).max(axis=1)
            used = scale > 0
            if costs[:, i].any():
                matrix = (features[used, :, i] / scale[used, None]).T
                # A pull towards the model as it was: few schemes are planned at first.
                prior = coefficients[used, i] * scale[used]
                pull = 1e-3 * np.sqrt(len(costs)) * np.eye(int(used.sum()))
                target = np.concatenate([costs[:, i], pull @ prior])
                found, *_ = np.linalg.lstsq(np.vstack([matrix, pull]), target, rcond=None)
                coefficients[used, i] = found / scale[used]
        return CostModel(self.space, self.depth, self.margins, coefficients)

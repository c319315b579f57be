"""What each thing that could learn gains by itself, measured by short runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np

from pock_tvm.search.objective import Gains
from pock_tvm.search.space import Choice, Space

Measure = Literal["accuracy", "loss"]
"""What is gained: held-out accuracy, or nats of held-out loss, which tell finer differences."""

HARM = -1.0
"""What is assumed of a choice all of whose runs diverged."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one choice gains over the head alone, and over the frozen model."""

    name: str
    gain: float
    """Mean over the seeds, each beside the run of the head with the same seed."""
    error: float
    """Standard error of that mean; of one seed it is not known, and 0."""
    over_frozen: float
    runs: int
    diverged: int

    def describe(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def contributions(
    names: Sequence[str],
    results: Mapping[tuple[str, int], Mapping[str, Any]],
    frozen: Mapping[str, Any],
    seeds: Sequence[int],
    measure: Measure,
) -> dict[str, Contribution]:
    """Put the results of runs together.

    Args:
        names: of the choices, ``head`` among them.
        results: of runs, by name and seed; those that failed have no numbers.
        frozen: result of no run at all.
        seeds: of the runs.
        measure: what is gained.
    """
    before = value(frozen, measure)
    base = {s: value(results[("head", s)], measure) for s in seeds}
    found = {}
    for name in names:
        pairs = [(value(results[(name, s)], measure), base[s]) for s in seeds]
        valid = [(mine, head) for mine, head in pairs if mine is not None and head is not None]
        gains = [mine - head for mine, head in valid]
        found[name] = Contribution(
            name=name,
            gain=fmean(gains) if gains else HARM,
            error=stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0,
            over_frozen=fmean(mine for mine, _ in valid) - (before or 0.0) if valid else HARM,
            runs=len(pairs),
            diverged=len(pairs) - len(valid),
        )
    return found


def value(result: Mapping[str, Any], measure: Measure) -> float | None:
    """Return what a run reached, the more the better; None where it diverged."""
    if measure == "accuracy":
        return result.get("accuracy")
    loss = result.get("loss")
    return None if loss is None else -loss


def shrunk(found: Mapping[str, Contribution]) -> dict[str, float]:
    """Return the gains, each drawn towards none by as much as it is noise.

    g · τ² / (τ² + σ²): with σ the pooled standard error and τ² what the gains vary by beyond it
    (empirical Bayes). The largest of many noisy numbers is large by luck, too; a sum of the
    largest would promise what no scheme keeps.
    """
    measured = [c for c in found.values() if c.name != "head" and c.diverged < c.runs]
    errors = [c.error**2 for c in measured if c.runs - c.diverged > 1]
    noise = fmean(errors) if errors else 0.0
    spread = fmean(c.gain**2 for c in measured) if measured else 0.0
    factor = max(0.0, spread - noise) / spread if spread else 1.0
    return {name: c.gain * (factor if c.diverged < c.runs else 1.0) for name, c in found.items()}


def gains_of(space: Space, found: Mapping[str, Contribution]) -> Gains:
    """Return the contributions by gene."""
    by_name = shrunk(found)
    by_choice = {choice: by_name[name] for name, choice in space.singles().items()}
    nothing = space.nothing
    biases = [by_choice[Choice(k, nothing.ratios)] for k in range(len(space.biases) + 1)]
    weights = [
        [0.0, *(by_choice[space.with_weight(w, r)] for r in range(1, len(space.ratios) + 1))]
        for w in range(len(space.weights))
    ]
    shape = (len(space.weights), 1 + len(space.ratios))
    return Gains(np.array(biases), np.array(weights).reshape(shape))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's ρ: the correlation of the ranks, equal values sharing one."""
    ranks = [_ranks(np.asarray(values, float)) for values in (first, second)]
    deviations = [r - r.mean() for r in ranks]
    scale = math.sqrt(math.prod(float((d**2).sum()) for d in deviations))
    return float((deviations[0] * deviations[1]).sum() / scale) if scale else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[inverse]

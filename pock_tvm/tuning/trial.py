"""Measure one decision beside what it would replace, in turns, on one device."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from statistics import median, quantiles
from typing import Any

import numpy as np

from pock_tvm.schedules.cpu.contraction import Contraction
from pock_tvm.tuning.device import Device

LEAST_GAIN = 0.015
"""Share of the time below which a gain is not worth a record."""

Turn = dict[int, tuple[float, float]]
"""Seconds of each module, by identity: with operands in the caches as they are, and without."""

_SCREENING, _ROUNDS, _RUNS = 3, 9, 3
_HOPELESS = 1.05
_NO_LOSS = 1.01


@dataclass(frozen=True)
class Verdict:
    """What became of a decision."""

    ratio: float | None
    """Median time over that of the decision in force; None where it crashes or computes wrongly."""
    is_better: bool
    """By more than the noise, with operands in the caches and without."""
    us: float = 0.0
    rules_us: float = 0.0


def judge(device: Device, rules: Any, best: Any, candidate: Any, tensors: Sequence[Any]) -> Verdict:
    """Time three modules of one kernel in turns: by the rules, the best so far, another one.

    Every round has each of them with caches as the runs before left them, and emptied.
    """
    modules = list({id(m): m for m in (rules, best, candidate)}.values())

    def turn(number: int) -> Turn:
        found = {}
        for module in modules if number % 2 else modules[::-1]:
            warm = device.seconds(module, tensors, runs=_RUNS, cold=False)
            found[id(module)] = (warm, device.seconds(module, tensors, runs=_RUNS, cold=True))
        return found

    times = [turn(number) for number in range(_SCREENING)]
    is_better = False
    if median(_ratios(times, candidate, best)) <= _HOPELESS:
        times += [turn(number) for number in range(_SCREENING, _ROUNDS)]
        if _wins(times, candidate, best):  # by chance, one in ten that are no better
            again = [turn(number) for number in range(_ROUNDS)]
            is_better = _wins(again, candidate, best)
            times += again
    return Verdict(
        ratio=median(_ratios(times, candidate, best)),
        is_better=is_better,
        us=1e6 * median(sum(t[id(candidate)]) / 2 for t in times),
        rules_us=1e6 * median(sum(t[id(rules)]) / 2 for t in times),
    )


def _wins(times: Sequence[Turn], candidate: Any, best: Any) -> bool:
    ratios = _ratios(times, candidate, best)
    each = (median(t[id(candidate)][i] / t[id(best)][i] for t in times) for i in (0, 1))
    is_faster = median(ratios) < 1 - LEAST_GAIN and quantiles(ratios, n=4)[2] < 1
    return is_faster and max(each) < _NO_LOSS


def same_values(
    one: Sequence[np.ndarray], other: Sequence[np.ndarray], c: Contraction, *, exactly: bool
) -> bool:
    """Tell whether two runs computed the same.

    Sums in another order may be off by what their products, below 1, round to.
    """
    if exactly:
        return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
    length = prod(g.extent for g in c.reduced)
    atol = 2 * np.finfo(c.dtype).eps * (length + 8)
    return all(np.allclose(a, b, rtol=1e-5, atol=atol) for a, b in zip(one, other, strict=True))


def _ratios(times: Sequence[dict[int, tuple[float, float]]], one: Any, other: Any) -> list[float]:
    return [sum(t[id(one)]) / sum(t[id(other)]) for t in times]

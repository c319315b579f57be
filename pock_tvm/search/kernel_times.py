"""How long a step takes, from measured times of its kernels.

A kernel has one name wherever it is called (``share_kernels``), so the profile of a few artifacts
tells the times of most kernels of all schemes. What none of them calls is estimated: its cycles by
roofline, at the speed that measured kernels of the same first operator reach.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from pock_tvm.artifact.load import Artifact
from pock_tvm.artifact.profiler import time_calls
from pock_tvm.search.planning import PlannedCost
from pock_tvm.targets import get_target

_QUARTILE = 25


def profile(artifact: Artifact, *, threads: int, steps: int) -> dict[str, Any]:
    """Return the time of each kernel of a step, and of whole steps, in nanoseconds.

    The lower quartile: what else the machine does only ever adds to a time.
    """
    timings = time_calls(
        artifact, get_target(artifact.description.target), threads=threads, steps=steps
    )
    by_kernel: dict[str, list[float]] = {}
    for call, times in zip(artifact.plan()["train_step"]["calls"], timings.calls_ns, strict=True):
        by_kernel.setdefault(call["kernel"], []).append(float(np.percentile(times, _QUARTILE)))
    return {
        "kernels_ns": {kernel: float(np.mean(times)) for kernel, times in by_kernel.items()},
        "calls": {kernel: len(times) for kernel, times in by_kernel.items()},
        "step_ns": float(np.percentile(timings.steps_ns, _QUARTILE)),
    }


@dataclass(frozen=True)
class KernelTimes:
    """Measured times of kernels, and what they say about others."""

    measured_ns: Mapping[str, float]
    step_over_kernels: float = 1.0
    """Time of a whole step over the sum of its kernels, timed one by one."""
    ns_per_cycle: Mapping[str, float] = field(default_factory=dict)
    """By first operator of a kernel; of all of them under the empty name."""

    @classmethod
    def of(
        cls, profiles: Sequence[Mapping[str, Any]], cycles: Mapping[str, float]
    ) -> "KernelTimes":
        """Learn from profiles.

        Args:
            profiles: what ``profile`` returned.
            cycles: estimates of the kernels, from the plans of the same schemes.
        """
        seen: dict[str, list[float]] = {}
        for one in profiles:
            for kernel, ns in one["kernels_ns"].items():
                seen.setdefault(kernel, []).append(ns)
        measured = {kernel: median(times) for kernel, times in seen.items()}
        speeds: dict[str, list[float]] = {}
        for kernel, ns in measured.items():
            if cycles.get(kernel):
                for group in ("", _operator(kernel)):
                    speeds.setdefault(group, []).append(ns / cycles[kernel])
        shares = [
            one["step_ns"] / sum(one["kernels_ns"][k] * n for k, n in one["calls"].items())
            for one in profiles
        ]
        return cls(
            measured,
            median(shares) if shares else 1.0,
            {group: median(values) for group, values in speeds.items()},
        )

    def step_ms(self, cost: PlannedCost) -> float:
        """Predict the time of a step."""
        total = sum(self.kernel_ns(k, cost.cycles[k]) * n for k, n in cost.calls.items())
        return total * self.step_over_kernels / 1e6

    def kernel_ns(self, kernel: str, cycles: float) -> float:
        """Return the time of one call, as measured or else as estimated."""
        found = self.measured_ns.get(kernel)
        if found is not None:
            return found
        speed = self.ns_per_cycle.get(_operator(kernel), self.ns_per_cycle.get("", 0.5))
        return cycles * speed

    def measured_share(self, cost: PlannedCost) -> float:
        """Return the share of a step's predicted time that was measured."""
        times = {k: self.kernel_ns(k, cost.cycles[k]) * n for k, n in cost.calls.items()}
        known = sum(ns for kernel, ns in times.items() if kernel in self.measured_ns)
        return known / (sum(times.values()) or 1.0)


def most_telling(
    costs: Mapping[str, PlannedCost], known: Mapping[str, float], count: int
) -> list[str]:
    """Return the schemes whose profiles cover most of the cycles that are not measured yet."""
    missing = {k: c for cost in costs.values() for k, c in cost.cycles.items() if k not in known}
    # A kernel matters by how much of all schemes' time it takes.
    weights = {
        k: sum(cost.calls.get(k, 0) for cost in costs.values()) * c for k, c in missing.items()
    }
    chosen: list[str] = []
    for _ in range(count):
        gains = {
            key: sum(weights.get(k, 0.0) for k in cost.calls)
            for key, cost in costs.items()
            if key not in chosen
        }
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or not gains[best]:
            break
        chosen.append(best)
        for kernel in costs[best].calls:
            weights.pop(kernel, None)
    return chosen


def _operator(kernel: str) -> str:
    return kernel.split("_")[0]

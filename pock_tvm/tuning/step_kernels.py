"""The kernels of an artifact's step, timed one by one on devices."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pock_tvm.artifact.load import Artifact
from pock_tvm.compilation.kernel_sources import read_kernel_sources
from pock_tvm.schedules.recorded import recorded_decisions
from pock_tvm.targets import TargetSpec
from pock_tvm.tuning.device import Device
from pock_tvm.tuning.kernel_times import time_kernels

Progress = Callable[[str, int, int, str], None]
"""Called with (stage, done, total, note)."""


@dataclass(frozen=True)
class KernelTime:
    """One kernel of a step."""

    kernel: str
    calls: int
    us: float
    """Median of a call."""
    device: str
    """Where it was measured."""

    @property
    def step_ms(self) -> float:
        """Return the time of all its calls in a step."""
        return self.us * self.calls / 1e3


def time_step_kernels(
    artifact: Artifact,
    spec: TargetSpec,
    devices: Sequence[Device],
    *,
    runs: int,
    progress: Progress,
) -> list[KernelTime]:
    """Measure every kernel of a training step, as it is compiled today; the slowest first.

    Raises:
        TuningError: the artifact holds no kernels, or a device was lost.
        RecordError: records cannot be read.
    """
    sources = read_kernel_sources(artifact)
    decisions = recorded_decisions({name: s.func for name, s in sources.items()}, spec)
    calls = calls_in_step(artifact)
    found: list[KernelTime] = []

    def tell(name: str, us: float, device: str) -> None:
        found.append(KernelTime(name, calls[name], us, device))
        progress("measure", len(found), len(sources), device)

    time_kernels(sources, decisions, spec, devices, tell, runs=runs)
    return sorted(found, key=lambda row: (-row.step_ms, row.kernel))


def calls_in_step(artifact: Artifact) -> Counter[str]:
    """Return how often a training step calls each kernel."""
    return Counter(call["kernel"] for call in artifact.plan()["train_step"]["calls"])

"""The record that a target file fills in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tvm.target import Target

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class DeviceSpec:
    """The GPU of a machine: how TVM writes its kernels, and how they are launched."""

    tvm_options: Mapping[str, Any]
    """Keyword form of the TVM target of the kernels: kind, limits."""

    group_threads: int
    """Threads of a work-group where a schedule has no reason for another number."""

    busy_threads: int
    """Threads that keep the device busy; with fewer, several share the fold of one element."""

    shared_bytes: int
    """Memory that the threads of a work-group share."""

    def build(self) -> Target:
        """Return the TVM target of the kernels."""
        return Target(dict(self.tvm_options))


@dataclass(frozen=True, kw_only=True)
class TargetSpec:
    """One machine: how TVM builds for it, how zig links for it, and the limits schedules obey."""

    name: str
    """What a user writes after ``--target``."""

    tvm_options: Mapping[str, Any]
    """Keyword form of the TVM target: kind, mtriple, mcpu, mattr."""

    zig_target: str
    """Target triple for ``zig cc -target``, for an executable."""

    zig_options: tuple[str, ...] = ()
    """Further options of ``zig cc``: the cpu, static linking."""

    emulator: tuple[str, ...] = ()
    """Command that runs a binary of this target on a Linux workstation; empty where none does."""

    core: str
    """Key of the tile tables in the schedules."""

    vector_bits: int
    """Width of one vector register."""

    vector_registers: int
    """Architectural vector registers that a register tile may use."""

    l1_bytes: int
    """Level-1 data cache of one core."""

    l2_bytes: int
    """Level-2 cache that one core can count on."""

    cores: int
    """Default number of threads."""

    precision: Precision = "fp32"
    """What matrix products round their operands to; sums and everything in memory are float32."""

    device: DeviceSpec | None = None
    """The GPU that runs the kernels; None where the processor does."""

    source: str
    """Where the numbers come from: a datasheet section, or a file under benchmarks/results/."""

    @property
    def is_at_hand(self) -> bool:
        """Tell whether the machine is the one that compiles, which can load what it made."""
        return self.name in ("host", "opencl")

    @property
    def has_system(self) -> bool:
        """Tell whether an operating system runs there, for threads, files and programs."""
        return "none" not in str(self.tvm_options.get("mtriple")).split("-")

    def build(self) -> Target:
        """Return the TVM target to compile for; of one with a GPU, that of its processor."""
        return Target(dict(self.tvm_options))

    def vector_lanes(self, dtype: str = "float32") -> int:
        """Return how many elements of ``dtype`` one vector register holds."""
        bits = int("".join(c for c in dtype if c.isdigit()))
        return max(1, self.vector_bits // bits)

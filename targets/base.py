"""The record that a target file fills in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm.target import Target


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

    source: str
    """Where the numbers come from: a datasheet section, or a file under benchmarks/results/."""

    def build(self) -> Target:
        """Return the TVM target to compile for."""
        return Target(dict(self.tvm_options))

    def vector_lanes(self, dtype: str = "float32") -> int:
        """Return how many elements of ``dtype`` one vector register holds."""
        bits = int("".join(c for c in dtype if c.isdigit()))
        return max(1, self.vector_bits // bits)

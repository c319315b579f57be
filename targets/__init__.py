"""Target descriptions: what a pass, a schedule or the linker may ask about a machine."""

if __name__ != "pock_tvm.targets":
    raise ImportError("import pock_tvm.targets, not targets")

import difflib
from pathlib import Path

from pock_tvm.errors import UnknownNameError
from pock_tvm.targets import (
    android,
    apple,
    arm,
    cortex_m,
    hexagon,
    metal,
    nvidia,
    opencl,
    riscv,
    x86,
)
from pock_tvm.targets.base import DeviceSpec, TargetSpec
from pock_tvm.targets.target_file import read_target

__all__ = ["DeviceSpec", "TargetSpec", "get_target", "target_specs"]

_FAMILIES = (x86, arm, android, apple, hexagon, riscv, cortex_m, metal, nvidia, opencl)


def target_specs() -> dict[str, TargetSpec]:
    """Return every known target by its command-line name, the host first."""
    known = [spec for family in _FAMILIES for spec in family.SPECS]
    return {spec.name: spec for spec in (x86.host_spec(), *known)}


def get_target(name: str) -> TargetSpec:
    """Look a target up by its command-line name, or read it from the ``.toml`` file named.

    Raises:
        UnknownNameError: no target has that name; the message offers the nearest one.
        TargetFileError: the file cannot be read as a target.
    """
    specs = target_specs()
    if name.endswith(".toml"):
        return read_target(Path(name), specs)
    if name in specs:
        return specs[name]
    near = difflib.get_close_matches(name, specs, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UnknownNameError(f"unknown target {name!r}{hint} (`pock targets` lists all)")

"""Target descriptions: what a pass, a schedule or the linker may ask about a machine."""

if __name__ != "pock_tvm.targets":
    raise ImportError("import pock_tvm.targets, not targets")

import difflib

from pock_tvm.errors import UnknownNameError
from pock_tvm.targets import arm, x86
from pock_tvm.targets.base import TargetSpec

__all__ = ["TargetSpec", "get_target", "target_specs"]


def target_specs() -> dict[str, TargetSpec]:
    """Return every known target by its command-line name, the host first."""
    return {spec.name: spec for spec in (x86.host_spec(), *x86.SPECS, *arm.SPECS)}


def get_target(name: str) -> TargetSpec:
    """Look a target up by its command-line name.

    Raises:
        UnknownNameError: no target has that name; the message offers the nearest one.
    """
    specs = target_specs()
    if name in specs:
        return specs[name]
    near = difflib.get_close_matches(name, specs, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UnknownNameError(f"unknown target {name!r}{hint} (`pock targets` lists all)")

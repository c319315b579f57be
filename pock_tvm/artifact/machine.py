"""Which processor a library was built for, and whether this one can run it."""

import functools
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_V3 = ("avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
_LEVELS = {
    "x86-64-v3": _V3,
    "x86-64-v4": (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"),
}
"""Features of the psABI levels, by the kernel's names for them."""

_RELEVANT = ("avx", "avx2", "avx512", "avx_", "bmi", "f16c", "fma", "amx", "asimd", "sve", "i8mm")
"""A host build may use whatever LLVM finds; these are the families that its kernels do use."""

_SAME = {"arm64": "aarch64", "amd64": "x86_64"}


def architecture(tvm_options: Mapping[str, Any]) -> str:
    """Return the instruction set of a target: the first part of its triple."""
    return str(tvm_options.get("mtriple", "")).partition("-")[0]


def required_features(target: str, tvm_options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the processor features that code for the target may use, by the kernel's names."""
    if target == "host":
        found = (name for name in _present() if name.startswith(_RELEVANT))
        return tuple(sorted(found))
    return _LEVELS.get(str(tvm_options.get("mcpu")), ())


def why_not_here(tvm_options: Mapping[str, Any], cpu_features: list[str]) -> str | None:
    """Say what keeps this machine from running the target's code; None when nothing does."""
    machine = platform.machine()
    wanted = architecture(tvm_options)
    if _SAME.get(wanted, wanted) != _SAME.get(machine, machine):
        return f"it is for {wanted}, this machine is {machine}"
    if platform.system() != "Linux" or "linux" not in str(tvm_options.get("mtriple")):
        return f"it is for {tvm_options.get('mtriple')}, this machine runs {platform.system()}"
    missing = sorted(set(cpu_features) - _present())
    if missing and _present():
        return f"this processor lacks {', '.join(missing)}"
    return None


@functools.cache
def _present() -> frozenset[str]:
    """Read the feature flags of the first core; empty where the kernel does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()

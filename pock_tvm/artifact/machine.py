"""Which processor a library was built for, and whether this one can run it."""

import functools
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_V2 = ("popcnt", "sse4_1", "sse4_2", "ssse3")
_V3 = ("avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
_LEVELS = {
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"),
}
"""Features of the psABI levels, by the kernel's names for them."""

_V82 = ("asimdhp", "asimdrdm", "atomics", "fphp")
_DOT_PRODUCT = (*_V82, "asimddp")
_ARM_CORES = {
    **dict.fromkeys(("cortex-a55", "cortex-a75", "cortex-a76", "cortex-a77"), _DOT_PRODUCT),
    **dict.fromkeys(("cortex-a78", "cortex-a78ae", "cortex-x1", "neoverse-n1"), _DOT_PRODUCT),
    "carmel": _V82,
}
"""What code for these cores may use beyond Armv8.0 (their TRMs; Carmel has no dot product)."""

_ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "+neon": {"arm": ("neon",), "armv7a": ("neon",), "armv7": ("neon",)},
    "+vfp4": {"arm": ("vfpv4",), "armv7a": ("vfpv4",), "armv7": ("vfpv4",)},
    "+dotprod": {"aarch64": ("asimddp",)},
    "+fullfp16": {"aarch64": ("asimdhp", "fphp")},
    "+lse": {"aarch64": ("atomics",)},
    "+i8mm": {"aarch64": ("i8mm",)},
    "+bf16": {"aarch64": ("bf16",)},
    "+sve": {"aarch64": ("sve",)},
    "+v": {"riscv64": ("v",)},
}
"""LLVM's attributes, by architecture."""

_BF16_PRODUCTS = {"x86_64": ("avx512_bf16",), "aarch64": ("bf16",)}
"""What the kernels of an artifact of that precision use, whatever its target says."""

_RELEVANT = ("avx", "avx2", "avx512", "avx_", "bmi", "f16c", "fma", "amx", "asimd", "sve", "i8mm")
"""A host build may use whatever LLVM finds; these are the families that its kernels do use."""

_SAME = {"arm64": "aarch64", "amd64": "x86_64"}


def architecture(tvm_options: Mapping[str, Any]) -> str:
    """Return the instruction set of a target: the first part of its triple."""
    return str(tvm_options.get("mtriple", "")).partition("-")[0]


def required_features(
    target: str, tvm_options: Mapping[str, Any], precision: str = "fp32"
) -> tuple[str, ...]:
    """Return the processor features that code for the target may use, by the kernel's names."""
    if target == "host":
        found = (name for name in _present() if name.startswith(_RELEVANT))
        return tuple(sorted(found))
    core, machine = str(tvm_options.get("mcpu")), architecture(tvm_options)
    wanted = {*_LEVELS.get(core, ())}
    if machine in ("aarch64", "arm64"):
        wanted.update(_ARM_CORES.get(core, ()))
    for attribute in tvm_options.get("mattr") or ():
        wanted.update(_ATTRIBUTES.get(attribute, {}).get(machine, ()))
    if precision == "bf16":
        wanted.update(_BF16_PRODUCTS.get(machine, ()))
    return tuple(sorted(wanted))


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

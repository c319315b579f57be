"""Merge the kernels of several entry points: equal ones once, under short names."""

import re
from collections.abc import Iterable
from dataclasses import replace

import tvm_ffi
from tvm import tirx

from pock_tvm.relay_passes.extract_step import ExtractedStep
from pock_tvm.relay_passes.step import Step

MAX_NAME = 40


def share_kernels(
    extracted: Iterable[ExtractedStep],
) -> tuple[list[Step], dict[str, tirx.PrimFunc]]:
    """Return the steps with their calls renamed, and each distinct kernel once."""
    shared: dict[tvm_ffi.StructuralKey, str] = {}
    kernels: dict[str, tirx.PrimFunc] = {}
    steps = []
    for one in extracted:
        renamed = {}
        for name, func in one.kernels.items():
            key = tvm_ffi.StructuralKey(func.without_attr("global_symbol"))
            if key not in shared:
                shared[key] = f"{_short(name)}_{len(kernels)}"
                kernels[shared[key]] = func
            renamed[name] = shared[key]
        calls = (replace(c, kernel=renamed[c.kernel]) for c in one.step.calls)
        steps.append(replace(one.step, calls=tuple(calls)))
    return steps, kernels


def _short(name: str) -> str:
    """Return ``fused_conv2d1_add_tir_clip3`` as ``conv2d_add_clip``, cut at a word."""
    words = [re.sub(r"\d+$", "", w) for w in name.split("_")]
    words = [w for w in words if w not in ("fused", "tir", "")]
    short = words[0] if words else "kernel"
    for word in words[1:]:
        if len(short) + len(word) >= MAX_NAME:
            break
        short += f"_{word}"
    return short

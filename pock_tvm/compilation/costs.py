"""Estimated time of each kernel, for decisions that weigh memory against time.

A roofline without overlap of calls: cycles of arithmetic at two vector multiply-adds in a cycle, or
of memory traffic at 4 bytes in a cycle, whichever is more; repeated calls move 16 bytes. On one
znver4 core the sum over a DistilBERT step is within 10 % of the measured time; only ratios of such
sums are ever used.
"""

from collections.abc import Mapping

import tvm
from tvm import tirx
from tvm.s_tir.analysis import estimate_tir_flops

from pock_tvm.relay_passes.step import Tensor
from pock_tvm.schedules import has_stages
from pock_tvm.targets import TargetSpec

BYTES_PER_CYCLE = 4
BYTES_PER_CYCLE_AGAIN = 16
"""Of a call whose result is read right behind it: what reads it finds it in the cache instead of
fetching what was kept from memory. Measured on MobileNetV2, batch 8, one znver4 core: repeated
elementwise calls, 6.8 % of the step's time by 4 bytes in a cycle, took -0.6 % of it."""


def kernel_flops(kernels: Mapping[str, tirx.PrimFunc]) -> dict[str, int]:
    """Return the arithmetic operations of each kernel; a transcendental function counts as one.

    A kernel that is one opaque block (a sort, an external call) moves data: it counts as none.
    """
    return {
        name: int(estimate_tir_flops(tvm.IRModule({"main": func}))) if has_stages(func) else 0
        for name, func in kernels.items()
    }


def estimate_cycles(
    kernels: Mapping[str, tirx.PrimFunc],
    flops: Mapping[str, int],
    spec: TargetSpec,
    *,
    bytes_per_cycle: int = BYTES_PER_CYCLE,
) -> dict[str, float]:
    """Return the cycles that one core of ``spec`` needs for each kernel."""
    flops_per_cycle = 2 * spec.vector_lanes()
    cycles = {}
    for name, func in kernels.items():
        moved = sum(
            Tensor("", tuple(int(d) for d in p.ty.shape), str(p.ty.dtype)).bytes
            for p in func.params
        )
        cycles[name] = max(flops[name] / flops_per_cycle, moved / bytes_per_cycle)
    return cycles

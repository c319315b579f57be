"""What matrix products round their operands to, where a machine has instructions for it."""

from dataclasses import replace
from typing import get_args

import tvm_ffi

from pock_tvm.errors import PrecisionError
from pock_tvm.targets.base import Precision, TargetSpec

__all__ = ["PRECISIONS", "Precision", "with_precision"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_BF16_FEATURES = {"x86_64": "avx512bf16", "aarch64": "bf16", "arm64": "bf16"}
"""LLVM's names of what multiplies pairs of bfloat16 numbers and sums in float32."""


def with_precision(spec: TargetSpec, precision: Precision) -> TargetSpec:
    """Return the machine with matrix products of that precision.

    Raises:
        PrecisionError: there is no such precision, or the machine has no instructions for it.
    """
    if precision not in PRECISIONS:
        raise PrecisionError(f"precision is {precision!r}; it takes {' or '.join(PRECISIONS)}")
    if precision == "bf16" and not _multiplies_bf16(spec):
        wanted = "AVX512_BF16 of x86-64, or BF16 of Armv8.6"
        raise PrecisionError(
            f"target {spec.name} has no bfloat16 products ({wanted}); compile with --precision fp32"
        )
    return replace(spec, precision=precision)


def _multiplies_bf16(spec: TargetSpec) -> bool:
    if spec.device is not None:
        return False
    feature = _BF16_FEATURES.get(str(spec.tvm_options.get("mtriple")).partition("-")[0])
    has_feature = tvm_ffi.get_global_func("target.llvm_cpu_has_feature")
    return feature is not None and bool(has_feature(feature, spec.build()))

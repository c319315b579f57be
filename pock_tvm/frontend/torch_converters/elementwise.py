"""Elementwise operators that TVM's converters lack, or write for floats only."""

import math
from typing import Any

import torch
from tvm import relax
from tvm.relax import op

from pock_tvm.frontend.torch_converters.arguments import arguments


def convert_clamp(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``clamp`` between numbers; integers know no infinity to leave a side open with."""
    x, low, high = arguments(node, importer, None, None)
    bb, dtype = importer.block_builder, str(x.ty.dtype)
    if dtype.startswith("float"):
        bounds = (-math.inf if low is None else low, math.inf if high is None else high)
        return bb.emit(op.clip(x, *bounds))
    if low is not None:
        x = bb.emit(op.maximum(x, relax.const(math.ceil(low), dtype)))
    return x if high is None else bb.emit(op.minimum(x, relax.const(math.floor(high), dtype)))


def convert_log_add_exp(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``log(eˣ + eʸ)`` = m + log(1 + e^-|x - y|), where m is the larger of the two."""
    x, y = importer.retrieve_args(node)
    bb = importer.block_builder
    apart = bb.emit(op.negative(bb.emit(op.abs(bb.emit(op.subtract(x, y))))))
    rest = bb.emit(op.log(bb.emit(bb.emit(op.exp(apart)) + relax.const(1, str(x.ty.dtype)))))
    return bb.emit(op.add(bb.emit(op.maximum(x, y)), rest))


def convert_exp2(node: torch.fx.Node, importer: Any) -> relax.Var:
    """2ˣ = e^(x · log 2)."""
    (x,) = importer.retrieve_args(node)
    bb = importer.block_builder
    return bb.emit(op.exp(bb.emit(x * relax.const(math.log(2), str(x.ty.dtype)))))


CONVERTERS = {
    "clamp.default": convert_clamp,
    "exp2.default": convert_exp2,
    "logaddexp.default": convert_log_add_exp,
}

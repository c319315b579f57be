"""Compute at compile time what has no elements, or is a sum over none.

Before:  a = x[:, 3:3];  b = matmul(a, w);  c = concat((a, y), 1)      # a: [2, 0], w: [0, 5]
After:   b = zeros(2, 5);  c = y

Empty slices arise where a model cuts a tensor at a length that happens to be that of the tensor.
Loops without a turn never write a sum's first value, and schedules divide by extents. Run it behind
``DeriveBackward``, which needs the paths through empty tensors to give gradients of zeros, and
before operators are lowered.
"""

import itertools
import math

import numpy as np
import tvm
from tvm import relax

from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape

_SUMS = (
    "pock.conv2d_weight_grad",
    "pock.layer_norm_scale_grad",
    "pock.matmul",
    "pock.rms_norm_scale_grad",
    "pock.scatter_add",
    "relax.matmul",
    "relax.nn.conv2d",
    "relax.sum",
)
_OF_NOTHING = {"relax.mean": math.nan, "relax.prod": 1.0, "relax.variance": math.nan}


@tvm.transform.module_pass(opt_level=0, name="FoldEmptyTensors")
class FoldEmptyTensors:
    """Replace tensors without elements, and what is reduced from them, by constants."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        return rewrite_main(mod, _folded)


def _folded(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
    if is_call_to(value, "relax.split"):
        return _split_into_slices(bb, value)
    if not isinstance(value, relax.Call) or not isinstance(value.ty, relax.TensorType):
        return value
    shape, dtype = static_shape(value), str(value.ty.dtype)
    if 0 in shape:
        return relax.const(np.zeros(shape, dtype), dtype)
    if is_call_to(value, "relax.concat"):
        return _without_empty_parts(value)
    if not any(_is_empty(operand) for operand in value.args):
        return value
    name = getattr(value.op, "name", "")
    if name in _SUMS:
        return relax.op.zeros(shape, dtype)
    if name == "relax.nn.pad":
        return relax.op.full(shape, relax.const(value.attrs.pad_value, dtype), dtype)
    if name in _OF_NOTHING:
        return relax.op.full(shape, relax.const(_OF_NOTHING[name], dtype), dtype)
    return value


def _without_empty_parts(call: relax.Call) -> relax.Expr:
    parts = call.args[0]
    if not isinstance(parts, relax.Tuple):
        return call
    rest = [part for part in parts.fields if not _is_empty(part)]
    if len(rest) == len(parts.fields):
        return call
    return rest[0] if len(rest) == 1 else relax.op.concat(rest, call.attrs.axis)


def _split_into_slices(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Return slices in place of a split with an empty part, which its lowering refuses."""
    shapes = [tuple(int(d) for d in part.shape) for part in call.ty.fields]
    if all(0 not in shape for shape in shapes):
        return call
    axis = int(call.attrs.axis) % len(shapes[0])
    ends = list(itertools.accumulate(shape[axis] for shape in shapes))
    slices = [
        relax.op.strided_slice(call.args[0], [axis], [end - shape[axis]], [end])
        for shape, end in zip(shapes, ends, strict=True)
    ]
    parts = [_folded(bb, bb.normalize(part)) for part in slices]
    return relax.Tuple([bb.emit(p) if isinstance(p, relax.Call) else p for p in parts])


def _is_empty(operand: relax.Expr) -> bool:
    return isinstance(operand.ty, relax.TensorType) and 0 in static_shape(operand)

"""Writing where a mask says, and updates that are added, multiplied, averaged or compete."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tvm import relax
from tvm.relax import op

from pock_tvm.frontend.torch_converters.arguments import arguments
from pock_tvm.relay_passes.vjp.broadcast import dtype_of, shape_of

_REDUCTIONS = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}
_NEUTRAL = {"add": 0.0, "mul": 1.0, "max": -np.inf, "min": np.inf}


def convert_scatter_reduce(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``scatter_reduce(x, axis, index, source, reduction, include_self)``.

    Without itself x starts, where it is updated at all, at what leaves the updates as they are. A
    mean is a sum over a count.
    """
    x, axis, index, source, reduction, include = arguments(node, importer, True)  # noqa: FBT003
    bb, kind, dtype = importer.block_builder, _REDUCTIONS[reduction], dtype_of(x)
    shape = shape_of(index)
    axes = list(range(len(shape)))

    def filled(value: float, extents: Sequence[int]) -> relax.Expr:
        return relax.const(np.full(extents, value), dtype)

    def scattered(data: relax.Expr, updates: relax.Expr, how: str) -> relax.Var:
        return bb.emit(op.scatter_elements(data, index, updates, axis, how))

    source = bb.emit(op.strided_slice(source, axes, [0] * len(axes), shape))
    if not include:
        x = scattered(x, filled(_NEUTRAL[kind], shape), "update")
    total = scattered(x, source, kind)
    if reduction != "mean":
        return total
    one = filled(1.0, shape_of(x))
    counts = one if include else scattered(one, filled(0.0, shape), "update")
    return bb.emit(total / scattered(counts, filled(1.0, shape), "add"))


def put_masked(
    bb: relax.BlockBuilder,
    x: relax.Expr,
    mask: relax.Expr,
    values: relax.Expr,
    *,
    accumulate: bool,
) -> relax.Var:
    """``x[mask] = v``, or ``+= v``: the n-th place of the mask gets the n-th row of v.

    Args:
        bb: builds the function.
        x: the mask covers its first axes.
        mask: bool.
        values: one row for each place, or one for all of them.
        accumulate: add the values instead.
    """
    shape, masked = shape_of(x), shape_of(mask)
    count, rest = math.prod(masked), shape[len(masked) :]
    own = shape_of(values)
    own = (1,) * (1 + len(rest) - len(own)) + own
    rows = bb.emit(op.reshape(values, own))
    flat = bb.emit(op.reshape(mask, (count,)))
    if own[0] != 1:
        order = bb.emit(op.cumsum(bb.emit(op.astype(flat, "int64")), 0))
        place = bb.emit(op.subtract(order, relax.const(1, "int64")))
        # In front of the first place, and where a mask has more places than there are rows.
        place = bb.emit(op.maximum(place, relax.const(0, "int64")))
        place = bb.emit(op.minimum(place, relax.const(own[0] - 1, "int64")))
        rows = bb.emit(op.take(rows, place, 0))
    rows = bb.emit(op.reshape(bb.emit(op.broadcast_to(rows, (count, *rest))), shape))
    chosen = bb.emit(op.reshape(mask, [*masked, *[1] * len(rest)]))
    return bb.emit(op.where(chosen, bb.emit(x + rows) if accumulate else rows, x))


CONVERTERS = {"scatter_reduce.two": convert_scatter_reduce}

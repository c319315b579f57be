"""Shapes that the rules need: static ones, and the way back over broadcast axes."""

import math
from collections.abc import Sequence

from tvm import relax
from tvm.ir import GenericConst, Op
from tvm.relax import Expr
from tvm.relax.op import sum as sum_axes

Shape = tuple[int, ...]

_RESHAPE = Op.get("relax.reshape")


def shape_of(x: Expr) -> Shape:
    """Return the static shape of a tensor that stands in the graph."""
    return tuple(int(extent) for extent in x.ty.shape)


def dtype_of(x: Expr) -> str:
    """Return the element type of a tensor that stands in the graph."""
    return str(x.ty.dtype)


def reshape(x: Expr, shape: Sequence[int]) -> Expr:
    """View ``x`` in another shape; ``relax.op.reshape`` takes an extent of 0 for "as it was"."""
    return relax.Call(_RESHAPE, [x, relax.ShapeExpr(list(shape))])


def scalar(value: float, like: Expr) -> GenericConst:
    """Return ``value`` as a constant of the element type of ``like``."""
    return relax.const(value, dtype_of(like))


def sum_to_shape(x: Expr, source: Shape, target: Shape) -> Expr:
    """Sum ``x`` of shape ``source`` over the axes along which ``target`` was broadcast to it.

    Written as one sum and one reshape: ``collapse_sum_to`` lowers to a kernel of its own that no
    schedule knows.
    """
    lead = len(source) - len(target)
    stretched = [
        axis
        for axis, extent in enumerate(source)
        if axis < lead or (target[axis - lead] == 1 and extent != 1)
    ]
    if not stretched:
        return x
    summed = sum_axes(x, axis=stretched)
    kept = tuple(extent for axis, extent in enumerate(source) if axis not in stretched)
    return summed if kept == target else reshape(summed, target)


def normal_axis(axis: int, rank: int) -> int:
    """Count a negative axis from the front."""
    return axis % rank


def normal_axes(axes: list[int] | None, rank: int) -> tuple[int, ...]:
    """Count negative axes from the front; None stands for all of them."""
    return tuple(range(rank)) if axes is None else tuple(sorted(int(a) % rank for a in axes))


def count(shape: Shape, axes: tuple[int, ...]) -> int:
    """Return how many elements of a tensor fall into one sum over ``axes``."""
    return math.prod(shape[axis] for axis in axes)

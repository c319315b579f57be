"""Our lowering of the operators that write elements by index.

All of them become one kernel over rows: the tensor is copied, and each row of the updates goes to
its place. Rows are visited in their order, so that sums do not depend on the number of threads, and
the last of several writers wins. What is a row depends on the operator: one element, or a slice
behind the indexed axes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx
from tvm.script import tirx as T  # noqa: N812  TVMScript is written with T

from pock_tvm.relay_passes.operators.gather import (
    broadcast_position,
    read,
    tuple_fields,
    wrapped,
)

_COMBINED: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda _, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "min": tirx.min,
    "max": tirx.max,
}
"""What a reduction makes of the old value and the new one."""


def scatter_rows_kernel(rows: int, columns: int, count: int, dtype: str, reduction: str) -> Any:
    """y = x, then y[i[r], c] (+)= u[r, c].

    for row, c: y = x
    for r, c:   y[i[r], c] = y[i[r], c] ∘ u[r, c]     # r in order; c can be vectorized
    """
    combined = _COMBINED[reduction]

    @T.prim_func(private=True, s_tir=True)
    def scatter_rows(
        x_handle: T.handle, places_handle: T.handle, updates_handle: T.handle, y_handle: T.handle
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        x = T.match_buffer(x_handle, (T.int64(rows), T.int64(columns)), dtype)
        places = T.match_buffer(places_handle, (T.int64(count),), "int64")
        updates = T.match_buffer(updates_handle, (T.int64(count), T.int64(columns)), dtype)
        y = T.match_buffer(y_handle, (T.int64(rows), T.int64(columns)), dtype)
        for r, c in T.grid(T.int64(rows), T.int64(columns)):
            with T.sblock("copy"):
                vr, vc = T.axis.remap("SS", [r, c])
                T.reads(x[vr, vc])
                T.writes(y[vr, vc])
                y[vr, vc] = x[vr, vc]
        for r, c in T.grid(T.int64(count), T.int64(columns)):
            with T.sblock("scatter_rows"):
                vr, vc = T.axis.remap("RS", [r, c])
                T.reads(places[vr], updates[vr, vc], y[0 : T.int64(rows), vc])
                T.writes(y[0 : T.int64(rows), vc])
                T.sblock_attr({"pock.kernel": "scatter_rows"})
                y[places[vr], vc] = combined(y[places[vr], vc], updates[vr, vc])

    return scatter_rows


def _scatter(
    bb: relax.BlockBuilder,
    x: relax.Expr,
    places: relax.Expr,
    updates: relax.Expr,
    columns: int,
    reduction: str,
) -> relax.Expr:
    """Call the kernel: ``places`` count rows of ``columns`` elements from the start of x."""
    shape, dtype = [int(n) for n in x.ty.shape], str(x.ty.dtype)
    count = math.prod(int(n) for n in places.ty.shape)
    rows = math.prod(shape) // max(columns, 1)
    if 0 in (count, rows, columns):
        return x
    kernel = scatter_rows_kernel(rows, columns, count, dtype, reduction)
    flat = relax.op.call_tir(
        bb.add_func(kernel, "scatter_rows"),
        [
            bb.emit(relax.op.reshape(x, (rows, columns))),
            bb.emit(relax.op.reshape(places, (count,))),
            bb.emit(relax.op.reshape(updates, (count, columns))),
        ],
        out_ty=relax.TensorType((rows, columns), dtype),
    )
    return relax.op.reshape(bb.emit(flat), shape)


def _flat(position: Sequence[Any], shape: Sequence[Any]) -> Any:
    """Return the place of an element, counted from the start of a tensor of ``shape``."""
    place: Any = tirx.const(0, "int64")
    for i, extent in zip(position, shape, strict=True):
        place = place * int(extent) + i
    return place


def legalize_scatter_elements(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y = x, then y[a, i[a, r, c], c] (+)= u[a, r, c], r along the axis."""
    x, indices, updates = call.args
    axis = int(call.attrs.axis) % len(x.ty.shape)

    def places(indices: te.Tensor) -> te.Tensor:
        def place(*i: Any) -> Any:
            own = wrapped(indices[i], x.ty.shape[axis])
            return _flat([*i[:axis], own, *i[axis + 1 :]], x.ty.shape)

        return te.compute(indices.shape, place, name="places")

    at = bb.emit(bb.call_te(places, indices, primfunc_name_hint="places"))
    return _scatter(bb, x, at, updates, 1, str(call.attrs.reduction))


def legalize_scatter_nd(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y = x, then y[i[a…, 0], i[a…, 1], …, c…] (+)= u[a…, c…]."""
    x, indices, updates = call.args
    depth = int(indices.ty.shape[-1])
    shape = [int(n) for n in x.ty.shape]
    indexed = shape[:depth]

    def places(indices: te.Tensor) -> te.Tensor:
        def place(*i: Any) -> Any:
            own = [wrapped(indices[(*i, k)], extent) for k, extent in enumerate(indexed)]
            return _flat(own, indexed)

        return te.compute(indices.shape[:-1], place, name="places")

    at = bb.emit(bb.call_te(places, indices, primfunc_name_hint="places"))
    columns = math.prod(shape[depth:])
    return _scatter(bb, x, at, updates, columns, str(call.attrs.reduction))


def legalize_index_put(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y = x, then y[i₀[a…], i₁[a…], …] (+)= v[a…], indices and values broadcast together."""
    x, indices, values = call.args
    fields = tuple_fields(bb, indices)
    shape = broadcast_shape([[int(n) for n in field.ty.shape] for field in fields])

    def places(*indices: te.Tensor) -> te.Tensor:
        def place(*i: Any) -> Any:
            own = [
                wrapped(read(index, broadcast_position(index.shape, i)), extent)
                for index, extent in zip(indices, x.ty.shape, strict=True)
            ]
            return _flat(own, x.ty.shape)

        return te.compute(shape, place, name="places")

    at = bb.emit(bb.call_te(places, *fields, primfunc_name_hint="places"))
    updates = bb.emit(relax.op.broadcast_to(values, shape))
    return _scatter(bb, x, at, updates, 1, "add" if call.attrs.accumulate else "update")


def broadcast_shape(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return what tensors of these shapes broadcast to; numpy's rule."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((n for n in axis if n != 1), 1) for axis in zip(*padded, strict=True))

"""Reading and writing by index tensors: ``x[i, :, j]``, ``x[i] = v``, ``scatter``, ``scatter_add``.

TVM's converters refuse indices of some axes only, take indices apart from each other for an outer
product of them, and do not count negative ones from the end.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tvm import relax
from tvm.relax import op

from pock_tvm.frontend.torch_converters.scattering import put_masked
from pock_tvm.relay_passes.operators.scatter import broadcast_shape
from pock_tvm.relay_passes.vjp.broadcast import dtype_of, shape_of

Indices = Sequence[relax.Expr | None]


def convert_index(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``x[i₀, :, i₁, …]``: the indexed axes become one, of which rows are taken."""
    x, indices = importer.retrieve_args(node)
    bb = importer.block_builder
    axes = _indexed(indices)
    if len(axes) == 1:
        (axis,) = axes
        return bb.emit(op.take(x, _wrapped(bb, indices[axis], shape_of(x)[axis]), axis))
    rows, order = _rows(bb, x, axes)
    taken = bb.emit(op.take(rows, _places(bb, x, indices), 0))
    return _transposed(bb, taken, _result_order(axes, order, indices))


def convert_index_put(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``x[i₀, :, i₁, …] = v`` or ``+= v``; a mask names the places that are true."""
    args = importer.retrieve_args(node)
    x, indices, values = args[:3]
    accumulate = args[3] if len(args) > 3 else node.kwargs.get("accumulate", False)
    bb = importer.block_builder
    if any(index is not None and dtype_of(index) == "bool" for index in indices):
        if len(indices) > 1 or indices[0] is None:
            raise ValueError("x[mask] = v is supported for one mask over the first axes only")
        return put_masked(bb, x, indices[0], values, accumulate=accumulate)
    axes = _indexed(indices)
    rows, order = _rows(bb, x, axes)
    places = _places(bb, x, indices)
    back = _result_order(axes, order, indices)
    moved = [*shape_of(places), *shape_of(rows)[1:]]
    spread = bb.emit(op.broadcast_to(values, [moved[axis] for axis in back]))
    updates = _transposed(bb, spread, _inverse(back))
    depth = bb.emit(op.expand_dims(places, -1))
    written = bb.emit(op.scatter_nd(rows, depth, updates, "add" if accumulate else "update"))
    apart = bb.emit(op.reshape(written, [shape_of(x)[axis] for axis in order]))
    return _transposed(bb, apart, _inverse(order))


def convert_scatter(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``x[…, i, …] = s``, or ``+= s``, along one axis; s may be wider than the indices."""
    x, axis, index, source, *_ = importer.retrieve_args(node)
    bb = importer.block_builder
    shape = shape_of(index)
    if isinstance(source, relax.Expr) and shape_of(source):
        axes = list(range(len(shape)))
        if shape_of(source) != shape:
            source = bb.emit(op.strided_slice(source, axes, [0] * len(axes), shape))
    else:
        value = source if isinstance(source, relax.Expr) else relax.const(source, dtype_of(x))
        source = bb.emit(op.broadcast_to(value, shape))
    kind = "add" if node.target.__name__.startswith("scatter_add") else "update"
    return bb.emit(op.scatter_elements(x, index, source, axis, kind))


def _indexed(indices: Indices) -> list[int]:
    return [axis for axis, index in enumerate(indices) if index is not None]


def _rows(bb: relax.BlockBuilder, x: relax.Expr, axes: list[int]) -> tuple[relax.Expr, list[int]]:
    """Return x with its indexed axes in front, joined to one, and the order of the axes before."""
    shape = shape_of(x)
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*axes, *rest]
    count = 1
    for axis in axes:
        count *= shape[axis]
    moved = _transposed(bb, x, order)
    return bb.emit(op.reshape(moved, [count, *(shape[axis] for axis in rest)])), order


def _places(bb: relax.BlockBuilder, x: relax.Expr, indices: Indices) -> relax.Expr:
    """Return the number of the row that each group of indices names."""
    place: relax.Expr | None = None
    for axis, index in enumerate(indices):
        if index is None:
            continue
        extent = shape_of(x)[axis]
        own = _wrapped(bb, bb.emit(op.astype(index, "int64")), extent)
        place = own if place is None else bb.emit(place * relax.const(extent, "int64") + own)
    return place


def _wrapped(bb: relax.BlockBuilder, index: relax.Expr, extent: int) -> relax.Expr:
    """Count negative indices from the end."""
    return bb.emit(op.floor_mod(index, relax.const(extent, dtype_of(index))))


def _result_order(axes: list[int], order: list[int], indices: Indices) -> list[int]:
    """Return the axes of ``x[indices]`` as those of rows taken: indices stand where x's axes stood.

    Indices with a whole axis between them go to the front, as in PyTorch and NumPy.
    """
    width = len(broadcast_shape([shape_of(indices[axis]) for axis in axes]))
    adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
    before = axes[0] if adjacent else 0
    rest = list(range(width, width + len(order) - len(axes)))
    return [*rest[:before], *range(width), *rest[before:]]


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _transposed(bb: relax.BlockBuilder, x: relax.Expr, order: list[int]) -> relax.Expr:
    return x if order == list(range(len(order))) else bb.emit(op.permute_dims(x, order))


CONVERTERS = {
    "index.Tensor": convert_index,
    "index_put.default": convert_index_put,
    "scatter.src": convert_scatter,
    "scatter.value": convert_scatter,
    "scatter_add.default": convert_scatter,
}

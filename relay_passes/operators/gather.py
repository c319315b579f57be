"""Our lowering of the operators that read elements by index: one tensor expression each.

An index counts from the end where it is negative. It is taken modulo the extent of its axis, so
that no index, whatever the data, reads beside the tensor.
"""

from collections.abc import Sequence
from typing import Any

from tvm import relax, te, tirx


def wrapped(index: Any, extent: Any) -> Any:
    """Return an index modulo the extent of its axis: -1 is the last place."""
    return tirx.floormod(index.astype("int64"), tirx.const(int(extent), "int64"))


def read(tensor: te.Tensor, position: Sequence[Any]) -> Any:
    """Read a tensor of any rank, 0 included."""
    return tensor[tuple(position)] if len(tensor.shape) else tensor()


def broadcast_position(shape: Sequence[Any], position: Sequence[Any]) -> list[Any]:
    """Return where a tensor of ``shape`` stands at ``position`` of what it is broadcast to."""
    own = position[len(position) - len(shape) :]
    return [0 if int(extent) == 1 else i for i, extent in zip(own, shape, strict=True)]


def legalize_gather_elements(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y[a, r, c] = x[a, i[a, r, c], c], r along the axis."""
    x, indices = call.args
    axis = int(call.attrs.axis) % len(x.ty.shape)

    def gather(x: te.Tensor, indices: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            place = wrapped(indices[i], x.shape[axis])
            return x[(*i[:axis], place, *i[axis + 1 :])]

        return te.compute(indices.shape, element, name="gather_elements")

    return bb.call_te(gather, x, indices, primfunc_name_hint="gather_elements")


def legalize_gather_nd(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y[b…, a…, c…] = x[b…, i[b…, a…, 0], i[b…, a…, 1], …, c…]."""
    batch = int(call.attrs.batch_dims)

    def gather(x: te.Tensor, indices: te.Tensor) -> te.Tensor:
        *lead, depth = indices.shape
        rest = x.shape[batch + int(depth) :]

        def element(*i: Any) -> Any:
            at = i[: len(lead)]
            place = [wrapped(indices[(*at, k)], x.shape[batch + k]) for k in range(int(depth))]
            return read(x, [*i[:batch], *place, *i[len(lead) :]])

        return te.compute((*lead, *rest), element, name="gather_nd")

    return bb.call_te(gather, *call.args, primfunc_name_hint="gather_nd")


def legalize_index_tensor(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y[a…, c…] = x[i₀[a…], i₁[a…], …, c…], the indices broadcast against each other."""
    x, indices = call.args
    shape = call.ty.shape

    def index(x: te.Tensor, *indices: te.Tensor) -> te.Tensor:
        lead = len(shape) - (len(x.shape) - len(indices))

        def element(*i: Any) -> Any:
            at = i[:lead]
            place = [
                wrapped(read(own, broadcast_position(own.shape, at)), x.shape[axis])
                for axis, own in enumerate(indices)
            ]
            return read(x, [*place, *i[lead:]])

        return te.compute(shape, element, name="index_tensor")

    return bb.call_te(index, x, *tuple_fields(bb, indices), primfunc_name_hint="index_tensor")


def tuple_fields(bb: relax.BlockBuilder, value: relax.Expr) -> list[relax.Expr]:
    """Return the fields of a tuple, however it is written."""
    if isinstance(value, relax.Tuple):
        return list(value.fields)
    return [bb.emit(relax.TupleGetItem(value, i)) for i in range(len(value.ty.fields))]

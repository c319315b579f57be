"""Our lowering of ``relax.take``: rows of a table by index.

TVM's warns on every build that its fast mode may read out of bounds. Here the runtime checks the
indices once, when a batch arrives, against the limits that ``index_limits`` finds.
"""

from typing import Any

from tvm import relax, te, tirx


def te_take(x: te.Tensor, indices: te.Tensor, axis: int, mode: str) -> te.Tensor:
    """y[a…, i…, b…] = x[a…, indices[i…], b…]."""
    rank, extent = len(indices.shape), x.shape[axis]
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]

    def row(position: tuple[Any, ...]) -> Any:
        index = indices[position] if rank else indices()
        if mode == "clip":
            return tirx.max(0, tirx.min(index, extent - 1))
        if mode == "wrap":
            return tirx.floormod(index, extent)
        return index

    def taken(*i: Any) -> Any:
        return x[(*i[:axis], row(i[axis : axis + rank]), *i[axis + rank :])]

    return te.compute(shape, taken, name="take")


def legalize_take(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.take`` along one axis; without an axis the table is a vector."""
    x, indices = call.args
    axis = int(call.attrs.axis or 0) % len(x.ty.shape)
    mode = str(call.attrs.mode)
    return bb.call_te(lambda a, b: te_take(a, b, axis, mode), x, indices, primfunc_name_hint="take")

"""The gradient of ``take``: rows are added to where they were taken from.

Written as TIR because the place of each addition is data. Indices are visited in their order, so
sums do not depend on the number of threads; the columns of a row are independent of each other.
"""

import math
from typing import Any

from tvm import relax
from tvm.script import tirx as T  # noqa: N812  TVMScript is written with T

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def scatter_add_kernel(outer: int, rows: int, columns: int, count: int, dtypes: list[str]) -> Any:
    """x̄[a, i[r], c] = Σ ȳ[a, r, c], i[r] in [0, rows).

    for a, row, c: x̄ = 0
    for a, r, c:   x̄[a, i[r], c] += ȳ[a, r, c]     # r in order; c can be vectorized
    """
    dtype, index_dtype = dtypes

    @T.prim_func(private=True, s_tir=True)
    def scatter_add(ct_handle: T.handle, indices_handle: T.handle, out_handle: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        ct = T.match_buffer(ct_handle, (T.int64(outer), T.int64(count), T.int64(columns)), dtype)
        indices = T.match_buffer(indices_handle, (T.int64(count),), index_dtype)
        out = T.match_buffer(out_handle, (T.int64(outer), T.int64(rows), T.int64(columns)), dtype)
        for a, r, c in T.grid(T.int64(outer), T.int64(rows), T.int64(columns)):
            with T.sblock("zero"):
                va, vr, vc = T.axis.remap("SSS", [a, r, c])
                T.reads()
                T.writes(out[va, vr, vc])
                out[va, vr, vc] = T.Cast(dtype, 0)
        for a, r, c in T.grid(T.int64(outer), T.int64(count), T.int64(columns)):
            with T.sblock("scatter_add"):
                va, vr, vc = T.axis.remap("SRS", [a, r, c])
                T.reads(indices[vr], ct[va, vr, vc], out[va, 0 : T.int64(rows), vc])
                T.writes(out[va, 0 : T.int64(rows), vc])
                T.sblock_attr({"pock.kernel": "scatter_add"})
                # An index out of range reads garbage in ``take``; here it must not write.
                if indices[vr] >= 0 and indices[vr] < rows:
                    out[va, indices[vr], vc] = out[va, indices[vr], vc] + ct[va, vr, vc]

    return scatter_add


def _infer(call: relax.Call) -> relax.TensorType:
    """Sum of the slices of a cotangent at the indices that they were taken from."""
    return relax.TensorType([int(n) for n in call.attrs["x_shape"]], call.args[0].ty.dtype)


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    ct, indices = call.args
    shape, axis = [int(n) for n in call.attrs["x_shape"]], int(call.attrs["axis"])
    outer, columns = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    count = math.prod(int(n) for n in indices.ty.shape)
    dtypes = [str(ct.ty.dtype), str(indices.ty.dtype)]
    kernel = scatter_add_kernel(outer, shape[axis], columns, count, dtypes)
    flat = relax.op.call_tir(
        bb.add_func(kernel, "scatter_add"),
        [
            bb.emit(relax.op.reshape(ct, (outer, count, columns))),
            bb.emit(relax.op.reshape(indices, (count,))),
        ],
        out_ty=relax.TensorType((outer, shape[axis], columns), dtypes[0]),
    )
    return relax.op.reshape(bb.emit(flat), shape)


SCATTER_ADD = register_operator("pock.scatter_add", infer_type=_infer, legalize=_legalize)


def scatter_add(
    ct: relax.Expr, indices: relax.Expr, x_shape: tuple[int, ...], axis: int
) -> relax.Call:
    """Build ``pock.scatter_add``: the gradient of ``take(x, indices, axis)``, of shape x_shape."""
    return call_operator(SCATTER_ADD, ct, indices, x_shape=list(x_shape), axis=axis)

"""A step of plain gradient descent on the rows of a table that a batch has read.

``pock.row_update(w, indices, ȳ, η)``: w[i[r], c] ← w[i[r], c] - η · ȳ[r, c], r in order. The table
is overwritten; no gradient of its size exists, and rows that the batch did not touch stay cold.
"""

import math
from typing import Any

from tvm import relax
from tvm.script import tirx as T  # noqa: N812  TVMScript is written with T

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def row_update_kernel(rows: int, columns: int, count: int, dtypes: list[str]) -> Any:
    """for r, c: w[i[r], c] -= η · ȳ[r, c]     # r in order; c can be vectorized."""
    dtype, index_dtype = dtypes

    @T.prim_func(private=True, s_tir=True)
    def row_update(
        w_handle: T.handle, indices_handle: T.handle, ct_handle: T.handle, rate_handle: T.handle
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        w = T.match_buffer(w_handle, (T.int64(rows), T.int64(columns)), dtype)
        indices = T.match_buffer(indices_handle, (T.int64(count),), index_dtype)
        ct = T.match_buffer(ct_handle, (T.int64(count), T.int64(columns)), dtype)
        rate = T.match_buffer(rate_handle, (), dtype)
        for r, c in T.grid(T.int64(count), T.int64(columns)):
            with T.sblock("row_update"):
                vr, vc = T.axis.remap("RS", [r, c])
                T.reads(indices[vr], ct[vr, vc], rate[()], w[0 : T.int64(rows), vc])
                T.writes(w[0 : T.int64(rows), vc])
                T.sblock_attr({"pock.kernel": "row_update"})
                # An index out of range reads garbage in ``take``; here it must not write.
                if indices[vr] >= 0 and indices[vr] < rows:
                    w[indices[vr], vc] = w[indices[vr], vc] - rate[()] * ct[vr, vc]

    return row_update


def _infer(call: relax.Call) -> relax.TensorType:
    """Plain gradient descent on the rows of a table that a batch has read."""
    return call.args[0].ty


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    w, indices, ct, rate = call.args
    rows, columns = (int(n) for n in w.ty.shape)
    count = math.prod(int(n) for n in indices.ty.shape)
    dtypes = [str(w.ty.dtype), str(indices.ty.dtype)]
    kernel = row_update_kernel(rows, columns, count, dtypes)
    flat_indices = bb.emit(relax.op.reshape(indices, (count,)))
    flat_ct = bb.emit(relax.op.reshape(ct, (count, columns)))
    return relax.op.call_tir_inplace(
        bb.add_func(kernel, "row_update"), [w, flat_indices, flat_ct, rate], [0], w.ty
    )


ROW_UPDATE = register_operator("pock.row_update", infer_type=_infer, legalize=_legalize)


def row_update(w: relax.Expr, indices: relax.Expr, ct: relax.Expr, rate: relax.Expr) -> relax.Call:
    """Build ``pock.row_update``: table [rows, columns], indices, ct [*indices, columns], η []."""
    return call_operator(ROW_UPDATE, w, indices, ct, rate)

"""Write some positions along one axis of a tensor, in place.

``pock.write_slice(w, indices, values, axis)``: w[…, i[r], …] ← values[…, r, …], r in order. What
no index names keeps its bits. An index below zero or beyond the end writes nothing.
"""

import math
from typing import Any

from tvm import relax
from tvm.script import tirx as T  # noqa: N812  TVMScript is written with T

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def write_slice_kernel(outer: int, extent: int, inner: int, count: int, dtypes: list[str]) -> Any:
    """for a, r, c: w[a, i[r], c] = values[a, r, c]     # r in order; c can be vectorized."""
    dtype, index_dtype = dtypes

    @T.prim_func(private=True, s_tir=True)
    def write_slice(w_handle: T.handle, indices_handle: T.handle, values_handle: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        w = T.match_buffer(w_handle, (T.int64(outer), T.int64(extent), T.int64(inner)), dtype)
        indices = T.match_buffer(indices_handle, (T.int64(count),), index_dtype)
        values = T.match_buffer(
            values_handle, (T.int64(outer), T.int64(count), T.int64(inner)), dtype
        )
        for a, r, c in T.grid(T.int64(outer), T.int64(count), T.int64(inner)):
            with T.sblock("write_slice"):
                va, vr, vc = T.axis.remap("SRS", [a, r, c])
                T.reads(indices[vr], values[va, vr, vc])
                T.writes(w[va, 0 : T.int64(extent), vc])
                T.sblock_attr({"pock.kernel": "write_slice"})
                if indices[vr] >= 0 and indices[vr] < extent:
                    w[va, indices[vr], vc] = values[va, vr, vc]

    return write_slice


def _infer(call: relax.Call) -> relax.TensorType:
    """A tensor in which some positions along an axis are overwritten."""
    return call.args[0].ty


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    w, indices, values = call.args
    shape, axis = [int(n) for n in w.ty.shape], int(call.attrs["axis"])
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    count = math.prod(int(n) for n in indices.ty.shape)
    dtypes = [str(w.ty.dtype), str(indices.ty.dtype)]
    kernel = write_slice_kernel(outer, shape[axis], inner, count, dtypes)
    flat = bb.emit(relax.op.reshape(w, (outer, shape[axis], inner)))
    written = relax.op.call_tir_inplace(
        bb.add_func(kernel, "write_slice"),
        [
            flat,
            bb.emit(relax.op.reshape(indices, (count,))),
            bb.emit(relax.op.reshape(values, (outer, count, inner))),
        ],
        [0],
        flat.ty,
    )
    return relax.op.reshape(bb.emit(written), shape)


WRITE_SLICE = register_operator("pock.write_slice", infer_type=_infer, legalize=_legalize)


def write_slice(w: relax.Expr, indices: relax.Expr, values: relax.Expr, axis: int) -> relax.Call:
    """Build ``pock.write_slice``: values have the shape of w, but for the extent of the axis."""
    return call_operator(WRITE_SLICE, w, indices, values, axis=axis)

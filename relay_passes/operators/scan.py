"""Sums and products along an axis as one loop, and the recurrence that derives the products.

Relax's own lowering is written for a thread per row with buffers that no schedule knows, and fails
on booleans.
"""

import math
from typing import Any

from tvm import relax
from tvm.script import tirx as T  # noqa: N812  TVMScript is written with T

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def scan_kernel(
    extents: tuple[int, int, int], dtypes: tuple[str, str], *, product: bool, exclusive: bool
) -> Any:
    """y[a, i, c] = Σ or Π of x[a, j, c] over j ≤ i, or j < i where exclusive.

    for a, i, c: y[i] = y[i - 1] ∘ x[i]     # i in order
    """
    outer, extent, inner = extents
    x_dtype, dtype = dtypes
    neutral = 1 if product else 0

    def combined(sum_before: Any, x: Any) -> Any:
        return sum_before * x if product else sum_before + x

    def source(i: Any) -> Any:
        return i - 1 if exclusive else i

    @T.prim_func(private=True, s_tir=True)
    def scan(x_handle: T.handle, y_handle: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        shape = (T.int64(outer), T.int64(extent), T.int64(inner))
        x = T.match_buffer(x_handle, shape, x_dtype)
        y = T.match_buffer(y_handle, shape, dtype)
        for a, i, c in T.grid(T.int64(outer), T.int64(extent), T.int64(inner)):
            with T.sblock("scan"):
                va, vi, vc = T.axis.remap("SRS", [a, i, c])
                T.reads(x[va, 0 : T.int64(extent), vc], y[va, 0 : T.int64(extent), vc])
                T.writes(y[va, 0 : T.int64(extent), vc])
                T.sblock_attr({"pock.kernel": "scan"})
                if vi == 0:
                    if exclusive:
                        y[va, vi, vc] = T.Cast(dtype, neutral)
                    else:
                        y[va, vi, vc] = T.Cast(dtype, x[va, vi, vc])
                else:
                    y[va, vi, vc] = combined(
                        y[va, vi - 1, vc], T.Cast(dtype, x[va, source(vi), vc])
                    )

    return scan


def suffix_kernel(extents: tuple[int, int, int], dtype: str) -> Any:
    """s[a, i, c] = g[a, i, c] + x[a, i + 1, c] · s[a, i + 1, c], from the last i to the first."""
    outer, extent, inner = extents

    @T.prim_func(private=True, s_tir=True)
    def suffix(g_handle: T.handle, x_handle: T.handle, s_handle: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        shape = (T.int64(outer), T.int64(extent), T.int64(inner))
        g = T.match_buffer(g_handle, shape, dtype)
        x = T.match_buffer(x_handle, shape, dtype)
        s = T.match_buffer(s_handle, shape, dtype)
        for a, i, c in T.grid(T.int64(outer), T.int64(extent), T.int64(inner)):
            with T.sblock("suffix"):
                va, vi, vc = T.axis.remap("SRS", [a, i, c])
                T.reads(
                    g[va, 0 : T.int64(extent), vc],
                    x[va, 0 : T.int64(extent), vc],
                    s[va, 0 : T.int64(extent), vc],
                )
                T.writes(s[va, 0 : T.int64(extent), vc])
                T.sblock_attr({"pock.kernel": "suffix"})
                if vi == 0:
                    s[va, extent - 1 - vi, vc] = g[va, extent - 1 - vi, vc]
                else:
                    s[va, extent - 1 - vi, vc] = (
                        g[va, extent - 1 - vi, vc] + x[va, extent - vi, vc] * s[va, extent - vi, vc]
                    )

    return suffix


def _extents(shape: list[int], axis: int) -> tuple[int, int, int]:
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _legalize(bb: relax.BlockBuilder, call: relax.Call, *, product: bool) -> relax.Expr:
    (x,) = call.args
    shape = [int(n) for n in call.ty.shape]
    axis = 0 if call.attrs.axis is None else int(call.attrs.axis) % len(shape)
    extents = _extents(shape, axis)
    dtypes = str(x.ty.dtype), str(call.ty.dtype)
    if 0 in extents:
        return relax.op.zeros(shape, dtypes[1])
    kernel = scan_kernel(extents, dtypes, product=product, exclusive=bool(call.attrs.exclusive))
    flat = relax.op.call_tir(
        bb.add_func(kernel, "scan"),
        [bb.emit(relax.op.reshape(x, extents))],
        out_ty=relax.TensorType(extents, dtypes[1]),
    )
    return relax.op.reshape(bb.emit(flat), shape)


def legalize_cumsum(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.cumsum``."""
    return _legalize(bb, call, product=False)


def legalize_cumprod(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.cumprod``."""
    return _legalize(bb, call, product=True)


def _infer_suffix(call: relax.Call) -> relax.TensorType:
    """sᵢ = gᵢ + xᵢ₊₁ · sᵢ₊₁ along an axis, from its end."""
    return call.args[0].ty


def _legalize_suffix(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    g, x = call.args
    shape, dtype = [int(n) for n in g.ty.shape], str(g.ty.dtype)
    extents = _extents(shape, int(call.attrs["axis"]))
    if 0 in extents:
        return g
    flat = relax.op.call_tir(
        bb.add_func(suffix_kernel(extents, dtype), "suffix"),
        [bb.emit(relax.op.reshape(v, extents)) for v in (g, x)],
        out_ty=relax.TensorType(extents, dtype),
    )
    return relax.op.reshape(bb.emit(flat), shape)


SUFFIX = register_operator("pock.suffix", infer_type=_infer_suffix, legalize=_legalize_suffix)


def suffix(g: relax.Expr, x: relax.Expr, axis: int) -> relax.Call:
    """Build ``pock.suffix``: Σ of gᵢ times all x between here and i."""
    return call_operator(SUFFIX, g, x, axis=axis)

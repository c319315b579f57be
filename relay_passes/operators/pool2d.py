"""Gradients of the pools, channels last.

A gradient gathers: each pixel asks the windows that cover it. So pixels are independent, sums have
a fixed order, and nothing is scattered. The pools themselves keep TVM's lowering.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import relax, te, tirx
from tvm.te import Tensor

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator

Pair = tuple[int, int]


@dataclass(frozen=True)
class Pool:
    """A sliding window over a picture of ``size`` (height, width) with ``out`` windows."""

    size: Pair
    out: Pair
    window: Pair
    strides: Pair
    padding: tuple[int, int, int, int]
    dilation: Pair
    count_include_pad: bool

    @classmethod
    def of(cls, call: relax.Call) -> "Pool":
        """Read the window of a ``relax.nn`` pool; its layout has to be NHWC."""
        attrs = call.attrs
        if attrs.layout != "NHWC":
            raise ValueError(f"a pool is not channels-last: {call}")
        return cls(
            size=_ints(call.args[0].ty.shape)[1:3],
            out=_ints(call.ty.shape)[1:3],
            window=_ints(attrs.pool_size),
            strides=_ints(attrs.strides),
            padding=_ints(attrs.padding),
            dilation=_ints(attrs.dilation),
            count_include_pad=bool(attrs.count_include_pad),
        )

    @classmethod
    def of_gradient(cls, call: relax.Call) -> "Pool":
        """Read the window of one of our gradients."""
        pairs = {k: _ints(call.attrs[k]) for k in ("size", "out", "window", "strides", "dilation")}
        include = bool(call.attrs["count_include_pad"])
        return cls(**pairs, padding=_ints(call.attrs["padding"]), count_include_pad=include)

    def attrs(self) -> dict[str, Any]:
        """Return the window as operator attributes."""
        pairs = {k: list(v) for k, v in vars(self).items() if k != "count_include_pad"}
        return {**pairs, "count_include_pad": int(self.count_include_pad)}

    @property
    def tap_type(self) -> str:
        """Return what counts the taps of a window, and one value more."""
        return "uint8" if self.window[0] * self.window[1] < 256 else "int32"

    def divisor(self, i: Any, j: Any) -> Any:
        """Return by how much the sum of window (i, j) of an average is divided: its pixels."""
        counts = []
        for axis, o in enumerate((i, j)):
            before, after = self.padding[axis], self.padding[axis + 2]
            begin = o * self.strides[axis] - before
            end = tirx.min(begin + self.window[axis], self.size[axis] + after)
            if not self.count_include_pad:
                begin, end = tirx.max(begin, 0), tirx.min(end, self.size[axis])
            counts.append(end - begin)
        return counts[0] * counts[1]


def _ints(values: Any) -> Any:
    return tuple(int(v) for v in values)


def _taps(pool: Pool) -> tuple[Any, Any]:
    return te.reduce_axis((0, pool.window[0]), "p"), te.reduce_axis((0, pool.window[1]), "q")


def _pixel(pool: Pool, x: Tensor, b: Any, i: Any, j: Any, k: Any, outside: Any) -> Any:
    """Return x[b, i, j, k], or ``outside`` where that is no pixel of the picture."""
    inside = tirx.all(i >= 0, i < pool.size[0], j >= 0, j < pool.size[1])
    return tirx.if_then_else(inside, x[b, i, j, k], outside)


def _sum_of_windows(
    ct: Tensor, pool: Pool, kernel: str, share: Callable[[Any, Any, Any, Any, Any, Any], Any]
) -> Tensor:
    """x̄[b, i, j, k] = Σ over taps (p, q) of ȳ · share, for the window whose tap falls on (i, j)."""
    n, _, _, channels = _ints(ct.shape)
    (sh, sw), (dh, dw), (oh, ow) = pool.strides, pool.dilation, pool.out
    top, left = pool.padding[:2]
    p, q = _taps(pool)
    zero = tirx.const(0, ct.dtype)

    def pixel(b: Any, i: Any, j: Any, k: Any) -> Any:
        row, column = i + top - p * dh, j + left - q * dw
        o, u = tirx.indexdiv(row, sh), tirx.indexdiv(column, sw)
        covered = tirx.all(
            row >= 0, column >= 0, o < oh, u < ow,
            tirx.indexmod(row, sh) == 0, tirx.indexmod(column, sw) == 0,
        )  # fmt: skip
        value = ct[b, o, u, k] * share(b, o, u, k, p, q)
        return te.sum(tirx.if_then_else(covered, value, zero), axis=[p, q])

    shape = (n, *pool.size, channels)
    return te.compute(shape, pixel, name=kernel, attrs={"pock.kernel": kernel})


def te_avg_pool2d_grad(ct: Tensor, pool: Pool) -> Tensor:
    """x̄ = Σ over the windows that cover a pixel of ȳ / the window's divisor."""
    one = tirx.const(1, ct.dtype)
    return _sum_of_windows(
        ct,
        pool,
        "avg_pool2d_grad",
        lambda _b, o, u, _k, _p, _q: one / tirx.Cast(ct.dtype, pool.divisor(o, u)),
    )


def te_max_pool2d_taps(x: Tensor, y: Tensor, pool: Pool) -> Tensor:
    """Return the first tap at which each window has its greatest pixel, as PyTorch breaks ties.

    They are counted in the type of x: a fold over one type runs in vectors.
    """
    (sh, sw), (dh, dw), (top, left) = pool.strides, pool.dilation, pool.padding[:2]
    p, q = _taps(pool)
    lowest, none = tirx.min_value(x.dtype), tirx.const(pool.window[0] * pool.window[1], x.dtype)

    def first(b: Any, i: Any, j: Any, k: Any) -> Any:
        pixel = _pixel(pool, x, b, i * sh + p * dh - top, j * sw + q * dw - left, k, lowest)
        tap = tirx.Cast(x.dtype, p * pool.window[1] + q)
        return te.min(tirx.Select(pixel == y[b, i, j, k], tap, none), axis=[p, q])

    taps = te.compute(y.shape, first, name="taps")
    return te.compute(y.shape, lambda *at: tirx.Cast(pool.tap_type, taps(*at)), name="small_taps")


def te_max_pool2d_grad(taps: Tensor, ct: Tensor, pool: Pool) -> Tensor:
    """x̄ = Σ ȳ over the windows whose greatest pixel this is."""

    def share(b: Any, o: Any, u: Any, k: Any, p: Any, q: Any) -> Any:
        is_greatest = tirx.Cast("int32", taps[b, o, u, k]) == tirx.Cast(
            "int32", p * pool.window[1] + q
        )
        return tirx.Select(is_greatest, tirx.const(1, ct.dtype), tirx.const(0, ct.dtype))

    return _sum_of_windows(ct, pool, "max_pool2d_grad", share)


def te_adaptive_avg_pool2d_grad(ct: Tensor, size: Pair) -> Tensor:
    """x̄ = Σ ȳ / area over the windows that cover a pixel; window o is ⌊o·n/m⌋ … ⌈(o+1)·n/m⌉."""
    n, oh, ow, channels = _ints(ct.shape)
    zero = tirx.const(0, ct.dtype)

    def most_windows(extent: int, windows: int) -> int:
        return max(-(-(i + 1) * windows // extent) - i * windows // extent for i in range(extent))

    p = te.reduce_axis((0, most_windows(size[0], oh)), "p")
    q = te.reduce_axis((0, most_windows(size[1], ow)), "q")

    def window(o: Any, extent: int, windows: int) -> tuple[Any, Any]:
        begin = tirx.indexdiv(o * extent, windows)
        return begin, tirx.indexdiv((o + 1) * extent + windows - 1, windows)

    def pixel(b: Any, i: Any, j: Any, k: Any) -> Any:
        o, u = tirx.indexdiv(i * oh, size[0]) + p, tirx.indexdiv(j * ow, size[1]) + q
        (top, bottom), (left, right) = window(o, size[0], oh), window(u, size[1], ow)
        covered = tirx.all(o < oh, u < ow, top <= i, i < bottom, left <= j, j < right)
        area = tirx.Cast(ct.dtype, (bottom - top) * (right - left))
        return te.sum(tirx.if_then_else(covered, ct[b, o, u, k] / area, zero), axis=[p, q])

    return te.compute(
        (n, *size, channels),
        pixel,
        name="adaptive_avg_pool2d_grad",
        attrs={"pock.kernel": "adaptive_avg_pool2d_grad"},
    )


def _infer(call: relax.Call) -> relax.TensorType:
    """Gradient of a 2-D pool with respect to its input."""
    ct = call.args[-1].ty
    n, _, _, channels = _ints(ct.shape)
    return relax.TensorType((n, *_ints(call.attrs["size"]), channels), ct.dtype)


def _infer_taps(call: relax.Call) -> relax.TensorType:
    """Place of the greatest pixel in each window of a 2-D pool."""
    return relax.TensorType(_ints(call.args[1].ty.shape), Pool.of_gradient(call).tap_type)


def _legalize_taps(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    pool = Pool.of_gradient(call)
    return bb.call_te(
        partial(te_max_pool2d_taps, pool=pool), *call.args, primfunc_name_hint="max_pool2d_taps"
    )


def _legalize_max(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    pool = Pool.of_gradient(call)
    return bb.call_te(
        partial(te_max_pool2d_grad, pool=pool), *call.args, primfunc_name_hint="max_pool2d_grad"
    )


def _legalize_avg(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    pool = Pool.of_gradient(call)
    return bb.call_te(
        partial(te_avg_pool2d_grad, pool=pool), *call.args, primfunc_name_hint="avg_pool2d_grad"
    )


def _legalize_adaptive(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(
        te_adaptive_avg_pool2d_grad,
        *call.args,
        size=_ints(call.attrs["size"]),
        primfunc_name_hint="adaptive_avg_pool2d_grad",
    )


MAX_TAPS = register_operator(
    "pock.max_pool2d_taps", infer_type=_infer_taps, legalize=_legalize_taps
)
MAX_GRAD = register_operator("pock.max_pool2d_grad", infer_type=_infer, legalize=_legalize_max)
AVG_GRAD = register_operator("pock.avg_pool2d_grad", infer_type=_infer, legalize=_legalize_avg)
ADAPTIVE_AVG_GRAD = register_operator(
    "pock.adaptive_avg_pool2d_grad", infer_type=_infer, legalize=_legalize_adaptive
)


def max_pool2d_taps(x: relax.Expr, y: relax.Expr, pool: Pool) -> relax.Call:
    """Build ``pock.max_pool2d_taps``: input and output -> which pixel of its window won."""
    return call_operator(MAX_TAPS, x, y, **pool.attrs())


def max_pool2d_grad(taps: relax.Expr, ct: relax.Expr, pool: Pool) -> relax.Call:
    """Build ``pock.max_pool2d_grad``: taps and cotangent -> gradient of the input."""
    return call_operator(MAX_GRAD, taps, ct, **pool.attrs())


def avg_pool2d_grad(ct: relax.Expr, pool: Pool) -> relax.Call:
    """Build ``pock.avg_pool2d_grad``: cotangent -> gradient of the input."""
    return call_operator(AVG_GRAD, ct, **pool.attrs())


def adaptive_avg_pool2d_grad(ct: relax.Expr, size: Pair) -> relax.Call:
    """Build ``pock.adaptive_avg_pool2d_grad``: cotangent -> gradient of a picture of ``size``."""
    return call_operator(ADAPTIVE_AVG_GRAD, ct, size=list(size))

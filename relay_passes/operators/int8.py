"""Products of 8-bit integers: four neighbours of the sum lie in one 32-bit word, the first lowest.

    words     x[..., c]          -> int32[..., ⌈c/4⌉]             with x ≈ s · q, -127 ≤ q ≤ 127
    product   words, words of w  -> int32[n, h, w, o]             exact
    scaled    sums               -> float[n, h, w, o]             Σ · s · s_w[o]

Words are what a processor multiplies at once (``vrmpy`` of Hexagon, ``sdot`` of Arm), they are
always aligned, and they need no 8-bit type in an artifact. Symmetric, so that padding is zero.
"""

from typing import Any

import numpy as np
from tvm import relax, te, tirx

from pock_tvm.relay_passes.operators.conv2d import Window
from pock_tvm.relay_passes.operators.registry import call_operator, register_operator

COLUMNS = 32
"""Output channels that stand together in packed weights: the words of an HVX register."""
LIMIT = 127
_SUMS_THEN_POINTS = 4  # relax's kOutEWiseFusable: what follows element by element joins the kernel


def pack_words(values: np.ndarray) -> np.ndarray:
    """Return integers from -127 to 127 as words along the last axis, zeros after the last."""
    spare = -values.shape[-1] % 4
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, spare)])
    return np.ascontiguousarray(padded.astype("<i1")).view("<i4")


def quantize_weight(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize HWIO ``weight`` symmetrically, each output channel by its own scale.

    Returns:
        words [⌈o/32⌉, h, w, ⌈i/4⌉, 32], and scales [o] with weight ≈ integers · scale.
    """
    scale = np.maximum(np.abs(weight).max((0, 1, 2)), np.finfo("float32").tiny) / LIMIT
    whole = np.rint(weight / scale).astype("int64")
    height, width, _, channels = weight.shape
    words = pack_words(whole.transpose(3, 0, 1, 2))  # o, h, w, i/4
    blocks = -(-channels // COLUMNS)
    words = np.pad(words, [(0, blocks * COLUMNS - channels), (0, 0), (0, 0), (0, 0)])
    words = words.reshape(blocks, COLUMNS, height, width, -1).transpose(0, 2, 3, 4, 1)
    return np.ascontiguousarray(words), scale.astype("float32")


def byte(word: Any, place: int) -> Any:
    """Return a byte of a 32-bit word, 0 the lowest, with its sign."""
    return (word << (24 - 8 * place)) >> 24


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def words_of(x: te.Tensor, scale: te.Tensor) -> te.Tensor:
    """Round x / scale, and put four neighbours of the last axis into a word."""
    *outer, channels = _ints(x.shape)
    shape = _ints(scale.shape)

    def word(*at: Any) -> Any:
        *where, group = at
        own = [i if n > 1 else 0 for i, n in zip(where, shape, strict=False)]
        factor = tirx.const(1.0, "float32") / scale(*own, 0)

        def whole(place: int) -> Any:
            channel = group * 4 + place
            inside = tirx.Min(channel, channels - 1) if channels % 4 else channel
            value = x(*where, inside) * factor
            half = tirx.Select(value < 0.0, tirx.const(-0.5, "float32"), tirx.const(0.5, "float32"))
            rounded = tirx.Cast("int32", value + half)
            return tirx.Select(channel < channels, rounded, 0) if channels % 4 else rounded

        total = whole(0) & 255
        for place in (1, 2, 3):
            total = total | (whole(place) & 255) << (8 * place)
        return total

    return te.compute((*outer, -(-channels // 4)), word, name="int8_words")


def conv2d_words(x: te.Tensor, w: te.Tensor, channels: int, window: Window) -> te.Tensor:
    """Σ over taps and words of the four products of bytes; ``x`` is padded already."""
    (sh, sw), (dh, dw) = window.strides, window.dilation
    n, height, width, depth = _ints(x.shape)
    _, kh, kw, _, columns = _ints(w.shape)
    oh = (height - dh * (kh - 1) - 1) // sh + 1
    ow = (width - dw * (kw - 1) - 1) // sw + 1
    p, q = te.reduce_axis((0, kh), "p"), te.reduce_axis((0, kw), "q")
    c = te.reduce_axis((0, depth), "c")

    def product(b: Any, i: Any, j: Any, o: Any) -> Any:
        left = x[b, i * sh + p * dh, j * sw + q * dw, c]
        right = w[tirx.indexdiv(o, columns), p, q, c, tirx.indexmod(o, columns)]
        four = [byte(left, k) * byte(right, k) for k in range(4)]
        return te.sum((four[0] + four[1]) + (four[2] + four[3]), axis=[p, q, c])

    attrs = {"pock.kernel": "int8_conv2d", "pock.window": [sh, sw, dh, dw]}
    return te.compute((n, oh, ow, channels), product, name="int8_conv2d", attrs=attrs)


def scaled_sums(total: te.Tensor, scale: te.Tensor, weight_scale: te.Tensor) -> te.Tensor:
    """y[b, i, j, o] = Σ[b, i, j, o] · s[b, i, j] · s_w[o], where s may be one for many pixels."""
    shape = _ints(scale.shape)

    def value(b: Any, i: Any, j: Any, o: Any) -> Any:
        own = [at if n > 1 else 0 for at, n in zip((b, i, j), shape, strict=False)]
        return tirx.Cast("float32", total[b, i, j, o]) * (scale(*own, 0) * weight_scale[o])

    return te.compute(_ints(total.shape), value, name="int8_scaled")


def _infer_words(call: relax.Call) -> relax.TensorType:
    """8-bit integers in words."""
    *outer, channels = _ints(call.args[0].ty.shape)
    return relax.TensorType([*outer, -(-channels // 4)], "int32")


def _infer_conv2d(call: relax.Call) -> relax.TensorType:
    """Exact convolution of 8-bit integers in words, without padding."""
    x, w = (_ints(a.ty.shape) for a in call.args)
    window = Window.of(call)
    sizes = [
        (x[1 + i] - window.dilation[i] * (w[1 + i] - 1) - 1) // window.strides[i] + 1
        for i in range(2)
    ]
    return relax.TensorType([x[0], *sizes, int(call.attrs["channels"])], "int32")


def _infer_scaled(call: relax.Call) -> relax.TensorType:
    """Sums of products as floats."""
    return relax.TensorType(_ints(call.args[0].ty.shape), "float32")


def _legalize_words(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(words_of, *call.args, primfunc_name_hint="int8_words")


def _legalize_conv2d(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    channels, window = int(call.attrs["channels"]), Window.of(call)
    return bb.call_te(
        lambda x, w: conv2d_words(x, w, channels, window),
        *call.args,
        primfunc_name_hint="int8_conv2d",
        primfunc_attrs={"op_pattern": _SUMS_THEN_POINTS},
    )


def _legalize_scaled(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(scaled_sums, *call.args, primfunc_name_hint="int8_scaled")


_WORDS = register_operator("pock.int8_words", infer_type=_infer_words, legalize=_legalize_words)
_CONV2D = register_operator("pock.int8_conv2d", infer_type=_infer_conv2d, legalize=_legalize_conv2d)
_SCALED = register_operator("pock.int8_scaled", infer_type=_infer_scaled, legalize=_legalize_scaled)


def int8_words(x: relax.Expr, scale: relax.Expr) -> relax.Call:
    """Quantize float ``x``; ``scale`` has its axes, those that share one of extent 1."""
    return call_operator(_WORDS, x, scale)


def int8_conv2d(x: relax.Expr, w: relax.Expr, channels: int, window: Window) -> relax.Call:
    """Convolve padded NHWC words with the words of :func:`quantize_weight`."""
    return call_operator(_CONV2D, x, w, channels=channels, **window.attrs())


def int8_scaled(total: relax.Expr, scale: relax.Expr, weight_scale: relax.Expr) -> relax.Call:
    """Return what the sums stand for."""
    return call_operator(_SCALED, total, scale, weight_scale)

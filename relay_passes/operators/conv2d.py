"""Convolution and its two gradients, channels last, as loops.

Data is NHWC, weights are HWIO (for ``groups`` > 1 the I axis has ``channels / groups`` entries).
``relax.nn.conv2d`` keeps its operator and gets this lowering; the gradients are our operators.
The block that does the arithmetic carries the annotation ``pock.kernel``; schedules look for it.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from tvm import relax, te, tirx

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator

Tensor: TypeAlias = te.Tensor


@dataclass(frozen=True)
class Window:
    """How the window moves: strides, padding (top, left, bottom, right), dilation, groups."""

    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, call: relax.Call) -> "Window":
        """Read the window of a conv2d call or of one of its gradients."""
        attrs = call.attrs
        return cls(
            _ints(attrs["strides"]),
            _ints(attrs["padding"]),
            _ints(attrs["dilation"]),
            int(attrs["groups"]),
        )

    def attrs(self) -> dict[str, Any]:
        """Return the window as operator attributes."""
        return {
            "strides": list(self.strides),
            "padding": list(self.padding),
            "dilation": list(self.dilation),
            "groups": self.groups,
        }

    def outputs(self, x: relax.Expr, w: relax.Expr) -> list[int]:
        """Return height and width of the convolution of NHWC ``x`` with HWIO ``w``."""
        sizes = zip(_ints(x.ty.shape)[1:3], _ints(w.ty.shape)[:2], strict=True)
        return [
            (size + self.padding[i] + self.padding[i + 2] - self.dilation[i] * (taps - 1) - 1)
            // self.strides[i]
            + 1
            for i, (size, taps) in enumerate(sizes)
        ]


def _ints(values: Any) -> Any:
    return tuple(int(v) for v in values)


def _shape(x: Tensor) -> tuple[int, ...]:
    return _ints(x.shape)


def _is_depthwise(weight_shape: tuple[int, ...], window: Window) -> bool:
    return weight_shape[2] == 1 and weight_shape[3] == window.groups > 1


def depthwise_attrs(kernel: str, window: Window) -> dict[str, Any]:
    """Return the annotations of a depthwise block: its name, and its window for the schedule."""
    return {
        "pock.kernel": kernel,
        "pock.window": [*window.strides, *window.padding[:2], *window.dilation],
    }


def pad_pixels(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Return NHWC ``x`` with zeros around each picture, or ``x`` itself where there are none."""
    top, left, bottom, right = padding
    if not any(padding):
        return x
    n, h, w, c = _shape(x)
    zero = tirx.const(0, x.dtype)

    def padded(b: Any, i: Any, j: Any, k: Any) -> Any:
        inside = tirx.all(i >= top, i < top + h, j >= left, j < left + w)
        return tirx.if_then_else(inside, x[b, i - top, j - left, k], zero)

    return te.compute((n, h + top + bottom, w + left + right, c), padded, name="padded")


def conv2d(x: Tensor, w: Tensor, window: Window) -> Tensor:
    """y[n, i, j, o] = Σ x[n, i·s + p·d - pad, j·s + q·d - pad, c] · w[p, q, c, o]."""
    (sh, sw), (dh, dw), groups = window.strides, window.dilation, window.groups
    n, h, wd, _ = _shape(x)
    kh, kw, per_group, out_channels = _shape(w)
    top, left, bottom, right = window.padding
    oh = (h + top + bottom - dh * (kh - 1) - 1) // sh + 1
    ow = (wd + left + right - dw * (kw - 1) - 1) // sw + 1
    xp = pad_pixels(x, window.padding)
    p, q = te.reduce_axis((0, kh), "p"), te.reduce_axis((0, kw), "q")
    if _is_depthwise(_shape(w), window):
        return te.compute(
            (n, oh, ow, out_channels),
            lambda b, i, j, k: te.sum(
                xp[b, i * sh + p * dh, j * sw + q * dw, k] * w[p, q, 0, k], axis=[p, q]
            ),
            name="depthwise_conv2d",
            attrs=depthwise_attrs("depthwise_conv2d", window),
        )
    c = te.reduce_axis((0, per_group), "c")
    out_per_group = out_channels // groups

    def product(b: Any, i: Any, j: Any, o: Any) -> Any:
        channel = c if groups == 1 else o // out_per_group * per_group + c
        return te.sum(
            xp[b, i * sh + p * dh, j * sw + q * dw, channel] * w[p, q, c, o], axis=[p, q, c]
        )

    name = "conv2d" if groups == 1 else "grouped_conv2d"
    return te.compute((n, oh, ow, out_channels), product, name=name, attrs={"pock.kernel": name})


def conv2d_data_grad(ct: Tensor, w: Tensor, x_shape: tuple[int, ...], window: Window) -> Tensor:
    """x̄[n, i, j, c] = Σ ȳ[n, (i + pad - p·d) / s, (j + pad - q·d) / s, o] · w[p, q, c, o].

    The sum runs over the taps for which the division has no remainder.
    """
    (sh, sw), (dh, dw), groups = window.strides, window.dilation, window.groups
    top, left, _, _ = window.padding
    n, h, wd, _ = x_shape
    kh, kw, per_group, out_channels = _shape(w)
    _, oh, ow, _ = _shape(ct)
    strided, depthwise = sh > 1 or sw > 1, _is_depthwise(_shape(w), window)
    if strided and not depthwise and (dh, dw, h % sh, wd % sw) == (1, 1, 0, 0):
        return _data_grad_by_phases(ct, w, x_shape, window)
    # Spread the cotangent over the grid of x, shifted so that every tap reads inside it.
    up, lead = dh * (kh - 1) - top, dw * (kw - 1) - left
    zero = tirx.const(0, ct.dtype)

    def spread(b: Any, i: Any, j: Any, o: Any) -> Any:
        row, col = i - up, j - lead
        inside = tirx.all(row >= 0, row < (oh - 1) * sh + 1, col >= 0, col < (ow - 1) * sw + 1)
        if strided:
            inside = tirx.all(inside, tirx.indexmod(row, sh) == 0, tirx.indexmod(col, sw) == 0)
        return tirx.if_then_else(
            inside, ct[b, tirx.indexdiv(row, sh), tirx.indexdiv(col, sw), o], zero
        )

    grid = (n, h + dh * (kh - 1), wd + dw * (kw - 1), out_channels)
    exact = grid[1:3] == (oh, ow) and (sh, sw, up, lead) == (1, 1, 0, 0)
    ctp = ct if exact else te.compute(grid, spread, name="spread")
    p, q = te.reduce_axis((0, kh), "p"), te.reduce_axis((0, kw), "q")
    if depthwise:
        return te.compute(
            x_shape,
            lambda b, i, j, k: te.sum(
                ctp[b, i + (kh - 1 - p) * dh, j + (kw - 1 - q) * dw, k] * w[p, q, 0, k],
                axis=[p, q],
            ),
            name="depthwise_conv2d_data_grad",
            attrs=depthwise_attrs("depthwise_conv2d_data_grad", window),
        )
    out_per_group = out_channels // groups
    o = te.reduce_axis((0, out_per_group), "o")

    def product(b: Any, i: Any, j: Any, c: Any) -> Any:
        channel = o if groups == 1 else c // per_group * out_per_group + o
        inner = c if groups == 1 else tirx.indexmod(c, per_group)
        return te.sum(
            ctp[b, i + (kh - 1 - p) * dh, j + (kw - 1 - q) * dw, channel] * w[p, q, inner, channel],
            axis=[p, q, o],
        )

    name = "conv2d_data_grad" if groups == 1 else "grouped_conv2d_data_grad"
    return te.compute(x_shape, product, name=name, attrs={"pock.kernel": name})


def _data_grad_by_phases(ct: Tensor, w: Tensor, x_shape: tuple[int, ...], window: Window) -> Tensor:
    """Return the data gradient of a strided convolution without a product with a spread zero.

    Pixels i = s·i' + f of one phase f read the taps p = (f + pad) mod s + s·t alone:

        x̄[n, i, j, c] = Σ ȳ[n, i' + (f + pad) / s - t, …, o] · w[(f + pad) mod s + s·t, …, c, o]

    where taps beyond the kernel count as zero.
    """
    (sh, sw), groups = window.strides, window.groups
    top, left, _, _ = window.padding
    kh, kw, per_group, out_channels = _shape(w)
    n, oh, ow, _ = _shape(ct)
    taps, taps_w = -(-kh // sh), -(-kw // sw)
    zero = tirx.const(0, ct.dtype)

    # (f + pad) mod s and (f + pad) / s for f < s. TVM 0.27 simplifies (f % 2 + 1) % 2 wrongly.
    def first_tap(f: Any, pad: int, s: int) -> Any:
        r = pad % s
        return tirx.Select(f >= s - r, f + (r - s), f + r)

    def ahead(f: Any, pad: int, s: int) -> Any:
        one, zero = tirx.const(1, f.ty.dtype), tirx.const(0, f.ty.dtype)
        return pad // s + tirx.Select(f >= s - pad % s, one, zero)

    def bordered(b: Any, i: Any, j: Any, o: Any) -> Any:
        row, col = i - (taps - 1), j - (taps_w - 1)
        inside = tirx.all(row >= 0, row < oh, col >= 0, col < ow)
        return tirx.if_then_else(inside, ct[b, row, col, o], zero)

    def phase(f: Any, g: Any, t: Any, u: Any, c: Any, o: Any) -> Any:
        p, q = first_tap(f, top, sh) + t * sh, first_tap(g, left, sw) + u * sw
        return tirx.if_then_else(tirx.all(p < kh, q < kw), w[p, q, c, o], zero)

    rows = x_shape[1] // sh + (sh - 1 + top) // sh + taps - 1
    columns = x_shape[2] // sw + (sw - 1 + left) // sw + taps_w - 1
    ctp = te.compute((n, rows, columns, out_channels), bordered, name="bordered")
    wp = te.compute((sh, sw, taps, taps_w, per_group, out_channels), phase, name="phases")
    t, u = te.reduce_axis((0, taps), "t"), te.reduce_axis((0, taps_w), "u")
    out_per_group = out_channels // groups
    o = te.reduce_axis((0, out_per_group), "o")

    def product(b: Any, i: Any, j: Any, c: Any) -> Any:
        f, g = i % sh, j % sw
        channel = o if groups == 1 else c // per_group * out_per_group + o
        inner = c if groups == 1 else c % per_group
        row = i // sh + ahead(f, top, sh) - t + (taps - 1)
        col = j // sw + ahead(g, left, sw) - u + (taps_w - 1)
        return te.sum(ctp[b, row, col, channel] * wp[f, g, t, u, inner, channel], axis=[t, u, o])

    name = "conv2d_data_grad" if groups == 1 else "grouped_conv2d_data_grad"
    return te.compute(x_shape, product, name=name, attrs={"pock.kernel": name})


def conv2d_weight_grad(x: Tensor, ct: Tensor, w_shape: tuple[int, ...], window: Window) -> Tensor:
    """w̄[p, q, c, o] = Σ_(n, i, j) x[n, i·s + p·d - pad, j·s + q·d - pad, c] · ȳ[n, i, j, o]."""
    (sh, sw), (dh, dw), groups = window.strides, window.dilation, window.groups
    _, _, per_group, out_channels = w_shape
    n, oh, ow, _ = _shape(ct)
    xp = pad_pixels(x, window.padding)
    b = te.reduce_axis((0, n), "b")
    i, j = te.reduce_axis((0, oh), "i"), te.reduce_axis((0, ow), "j")
    if _is_depthwise(w_shape, window):
        return te.compute(
            w_shape,
            lambda p, q, _, k: te.sum(
                xp[b, i * sh + p * dh, j * sw + q * dw, k] * ct[b, i, j, k], axis=[b, i, j]
            ),
            name="depthwise_conv2d_weight_grad",
            attrs=depthwise_attrs("depthwise_conv2d_weight_grad", window),
        )
    out_per_group = out_channels // groups

    def product(p: Any, q: Any, c: Any, o: Any) -> Any:
        channel = c if groups == 1 else o // out_per_group * per_group + c
        return te.sum(
            xp[b, i * sh + p * dh, j * sw + q * dw, channel] * ct[b, i, j, o], axis=[b, i, j]
        )

    name = "conv2d_weight_grad" if groups == 1 else "grouped_conv2d_weight_grad"
    return te.compute(w_shape, product, name=name, attrs={"pock.kernel": name})


def legalize_conv2d(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.nn.conv2d``; the layout passes have made it NHWC / HWIO."""
    if (call.attrs.data_layout, call.attrs.kernel_layout) != ("NHWC", "HWIO"):
        raise ValueError(f"conv2d is not channels-last: {call}")
    window = Window.of(call)
    return bb.call_te(lambda x, w: conv2d(x, w, window), *call.args, primfunc_name_hint="conv2d")


def _infer_data_grad(call: relax.Call) -> relax.TensorType:
    """Gradient of conv2d with respect to its input."""
    return relax.TensorType(_ints(call.attrs["x_shape"]), call.args[0].ty.dtype)


def _infer_weight_grad(call: relax.Call) -> relax.TensorType:
    """Gradient of conv2d with respect to its weight."""
    return relax.TensorType(_ints(call.attrs["w_shape"]), call.args[0].ty.dtype)


def _legalize_data_grad(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x_shape, window = _ints(call.attrs["x_shape"]), Window.of(call)
    return bb.call_te(
        lambda ct, w: conv2d_data_grad(ct, w, x_shape, window),
        *call.args,
        primfunc_name_hint="conv2d_data_grad",
    )


def _legalize_weight_grad(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    w_shape, window = _ints(call.attrs["w_shape"]), Window.of(call)
    return bb.call_te(
        lambda x, ct: conv2d_weight_grad(x, ct, w_shape, window),
        *call.args,
        primfunc_name_hint="conv2d_weight_grad",
    )


DATA_GRAD = register_operator(
    "pock.conv2d_data_grad", infer_type=_infer_data_grad, legalize=_legalize_data_grad
)
WEIGHT_GRAD = register_operator(
    "pock.conv2d_weight_grad", infer_type=_infer_weight_grad, legalize=_legalize_weight_grad
)


def data_grad(
    ct: relax.Expr, w: relax.Expr, x_shape: tuple[int, ...], window: Window
) -> relax.Call:
    """Build ``pock.conv2d_data_grad``: cotangent (n, oh, ow, o) and weight -> (n, h, w, c)."""
    return call_operator(DATA_GRAD, ct, w, x_shape=list(x_shape), **window.attrs())


def weight_grad(
    x: relax.Expr, ct: relax.Expr, w_shape: tuple[int, ...], window: Window
) -> relax.Call:
    """Build ``pock.conv2d_weight_grad``: input and cotangent -> (kh, kw, c, o)."""
    return call_operator(WEIGHT_GRAD, x, ct, w_shape=list(w_shape), **window.attrs())

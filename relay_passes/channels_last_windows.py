"""Convolutions, pools and pixel shuffles, channels last; part of ``ConvertToChannelsLast``.

A window over a sequence becomes one over pictures of height 1. Windows over volumes stay what they
are, in NDHWC and DHWIO; ``LowerVolumesToPictures`` takes them from there.
"""

from collections.abc import Callable
from typing import Any, Protocol

from tvm import relax
from tvm.relax import op
from tvm.relax.op import permute_dims, reshape

from pock_tvm.relay_passes.operators.conv2d import Window, data_grad
from pock_tvm.relay_passes.rewrite import static_shape


class Twins(Protocol):
    """Gives channels-last values."""

    def last(self, bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        """Return ``x`` channels last."""


def _ints(values: Any) -> list[int]:
    return [int(v) for v in values]


def _as_picture(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the N…C shape of a sequence as that of pictures of height 1."""
    return (shape[0], 1, *shape[1:]) if len(shape) == 3 else shape


def _window(call: relax.Call) -> Window:
    """Return the window of a convolution over one or two axes."""
    strides, padding, dilation = (_ints(call.attrs[k]) for k in ("strides", "padding", "dilation"))
    (sh, sw), (dh, dw) = [1, *strides][-2:], [1, *dilation][-2:]
    before, after = _halves(padding)
    (top, left), (bottom, right) = [0, *before][-2:], [0, *after][-2:]
    return Window((sh, sw), (top, left, bottom, right), (dh, dw), int(call.attrs.groups))


def _last_shape(call: relax.Call) -> tuple[int, ...]:
    n, c, *extents = static_shape(call)
    return (n, *extents, c)


def _weight(bb: relax.BlockBuilder, w: relax.Expr) -> relax.Expr:
    """Return OI… weights as …IO; a transposed convolution has those of the one it transposes."""
    last = bb.emit(permute_dims(w, (*range(2, w.ty.ndim), 1, 0)))
    return bb.emit(reshape(last, (1, *static_shape(last)))) if w.ty.ndim == 3 else last


def _is_converted(call: relax.Call) -> bool:
    layout = call.attrs.layout if hasattr(call.attrs, "layout") else call.attrs.data_layout
    return bool(layout[1] != "C")


def _convolution(converter: Twins, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    if _is_converted(call):
        return None
    x, w = converter.last(bb, call.args[0]), _weight(bb, call.args[1])
    if call.ty.ndim == 5:
        return op.nn.conv3d(
            x,
            w,
            strides=call.attrs.strides,
            padding=call.attrs.padding,
            dilation=call.attrs.dilation,
            groups=call.attrs.groups,
            data_layout="NDHWC",
            kernel_layout="DHWIO",
        )
    window = _window(call)
    pictures = bb.emit(reshape(x, _as_picture(static_shape(x))))
    y = op.nn.conv2d(pictures, w, **window.attrs(), data_layout="NHWC", kernel_layout="HWIO")
    return y if call.ty.ndim == 4 else reshape(bb.emit(y), _last_shape(call))


def _transposed_convolution(
    converter: Twins, bb: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Return the data gradient of the convolution with the same weight and window."""
    if _is_converted(call):
        return None
    x, w, attrs = converter.last(bb, call.args[0]), _weight(bb, call.args[1]), call.attrs
    if call.ty.ndim == 5:
        return op.nn.conv3d_transpose(
            x,
            w,
            strides=attrs.strides,
            padding=attrs.padding,
            output_padding=attrs.output_padding,
            dilation=attrs.dilation,
            groups=attrs.groups,
            data_layout="NDHWC",
            kernel_layout="DHWOI",
        )
    shape = _last_shape(call)
    pictures = bb.emit(reshape(x, _as_picture(static_shape(x))))
    y = data_grad(pictures, w, _as_picture(shape), _window(call))
    return y if call.ty.ndim == 4 else reshape(bb.emit(y), shape)


def _pool(converter: Twins, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    if _is_converted(call):
        return None
    x, attrs, rank = converter.last(bb, call.args[0]), call.attrs, call.ty.ndim
    kind = call.op.name.removeprefix("relax.nn.")[: -len("1d")]
    pool: Callable[..., relax.Expr] = getattr(op.nn, f"{kind}{max(rank - 2, 2)}d")
    layout = "NDHWC" if rank == 5 else "NHWC"
    flat = [] if rank > 3 else [1]
    if rank == 3:
        x = bb.emit(reshape(x, _as_picture(static_shape(x))))
    if kind == "adaptive_avg_pool":
        y = pool(x, [*flat, *static_shape(call)[2:]], layout=layout)
    else:
        before, after = _halves(_ints(attrs.padding))
        none = [0] * len(flat)
        y = pool(
            x,
            pool_size=[*flat, *_ints(attrs.pool_size)],
            strides=[*flat, *_ints(attrs.strides)],
            padding=[*none, *before, *none, *after],
            dilation=[*flat, *_ints(attrs.dilation)],
            ceil_mode=attrs.ceil_mode,
            count_include_pad=attrs.count_include_pad,
            layout=layout,
        )
    return y if rank > 3 else reshape(bb.emit(y), _last_shape(call))


def _halves(values: list[int]) -> tuple[list[int], list[int]]:
    return values[: len(values) // 2], values[len(values) // 2 :]


def _pixel_shuffle(converter: Twins, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y[n, i·r + a, j·r + b, c] = x[n, i, j, (c, a, b)]."""
    r = int(call.attrs.upscale_factor)
    n, rows, columns, c = _last_shape(call)
    apart = reshape(converter.last(bb, call.args[0]), (n, rows // r, columns // r, c, r, r))
    return reshape(bb.emit(permute_dims(bb.emit(apart), (0, 1, 4, 2, 5, 3))), (n, rows, columns, c))


WINDOWS = {
    **{f"relax.nn.conv{axes}d": _convolution for axes in (1, 2, 3)},
    **{f"relax.nn.conv{axes}d_transpose": _transposed_convolution for axes in (1, 2, 3)},
    **{
        f"relax.nn.{kind}_pool{axes}d": _pool
        for kind in ("max", "avg", "adaptive_avg")
        for axes in (1, 2, 3)
    },
    "relax.nn.pixel_shuffle": _pixel_shuffle,
}
"""Operator -> form, see ``channels_last_forms.py``."""

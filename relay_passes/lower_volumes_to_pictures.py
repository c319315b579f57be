"""Make convolutions and pools over volumes of those over pictures.

Before:  y = conv3d(x, w)                        [NDHWC, DHWIO], kernel depth 3
After:   t = concat(x[:, 0:], x[:, 1:], x[:, 2:])   along the channels, n·d pictures
         y = conv2d(t, w as [H, W, 3·I, O])      [NHWC, HWIO]

Before:  y = max_pool3d(x)                                        [NDHWC]
After:   t = max_pool2d(x as n·d pictures);  y = max_pool2d(t as n pictures of [D, H·W])

The taps along the depth become channels, so one convolution of pictures, and its two gradients,
do the work; the input is stored as often as the kernel is deep. A transposed convolution runs the
same way backwards: a data gradient gives all taps, which are added up where they fall. Maxima and
means of boxes are those of rectangles, then of depths; the first greatest voxel stays the first.
Run it after ``ConvertToChannelsLast``.
"""

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax
from tvm.relax import op
from tvm.relax.op import concat, reshape, strided_slice

from pock_tvm.relay_passes.operators.conv2d import Window, data_grad
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape


@tvm.transform.module_pass(opt_level=0, name="LowerVolumesToPictures")
class LowerVolumesToPictures:
    """Rewrite ``conv3d``, ``conv3d_transpose`` and the pools over volumes, channels last."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""

        def lower(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if is_call_to(value, "relax.nn.conv3d") and value.attrs.data_layout == "NDHWC":
                return _conv3d(bb, value)
            if (
                is_call_to(value, "relax.nn.conv3d_transpose")
                and value.attrs.data_layout == "NDHWC"
            ):
                return _conv3d_transpose(bb, value)
            if is_call_to(value, *_POOLS) and value.attrs.layout == "NDHWC":
                return _pool3d(bb, value)
            return value

        return relax.transform.DeadCodeElimination()(rewrite_main(mod, lower))


_POOLS = ("relax.nn.max_pool3d", "relax.nn.avg_pool3d", "relax.nn.adaptive_avg_pool3d")


def _ints(values: Any) -> list[int]:
    return [int(v) for v in values]


def _windows(call: relax.Call) -> tuple[tuple[int, int, int, int], Window]:
    """Return (stride, padding before, padding after, dilation) of the depth, and the rest."""
    (sd, *strides), (dd, *dilation) = _ints(call.attrs.strides), _ints(call.attrs.dilation)
    front, top, left, back, bottom, right = _ints(call.attrs.padding)
    window = Window(
        (strides[0], strides[1]),
        (top, left, bottom, right),
        (dilation[0], dilation[1]),
        int(call.attrs.groups),
    )
    return (sd, front, back, dd), window


def _flat_weight(bb: relax.BlockBuilder, w: relax.Expr) -> relax.Expr:
    """[D, H, W, I, O] -> [H, W, D·I, O]."""
    depth, rows, columns, inputs, outputs = static_shape(w)
    moved = bb.emit(op.permute_dims(w, (1, 2, 0, 3, 4)))
    return bb.emit(reshape(moved, (rows, columns, depth * inputs, outputs)))


def _conv3d(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y[:, o] = Σ_p conv2d(x[:, o·s + p·d - pad], w[p]), the taps p side by side as channels."""
    x, w = call.args
    (stride, front, back, step), window = _windows(call)
    n, _, rows, columns, channels = static_shape(x)
    out, kernel = static_shape(call), static_shape(w)[0]
    groups, depth = window.groups, out[1]
    if front or back:
        x = bb.emit(op.nn.pad(x, [0, 0, front, back, 0, 0, 0, 0, 0, 0]))
    taps = []
    for p in range(kernel):
        first = p * step
        tap = strided_slice(x, [1], [first], [first + (depth - 1) * stride + 1], [stride])
        shape = (n * depth, rows, columns, groups, 1, channels // groups)
        taps.append(bb.emit(reshape(bb.emit(tap), shape)))
    joined = bb.emit(concat(taps, 4)) if kernel > 1 else taps[0]
    pictures = bb.emit(reshape(joined, (n * depth, rows, columns, kernel * channels)))
    y = op.nn.conv2d(
        pictures,
        _flat_weight(bb, w),
        **window.attrs(),
        data_layout="NHWC",
        kernel_layout="HWIO",
    )
    return reshape(bb.emit(y), out)


def _conv3d_transpose(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """y[:, o·s + p·d - pad] += (data gradient of conv2d with w[p])(x[:, o])."""
    x, w = call.args
    (stride, front, _, step), window = _windows(call)
    n, depth, rows, columns, channels = static_shape(x)
    out, kernel, groups = static_shape(call), static_shape(w)[0], window.groups
    pictures = bb.emit(reshape(x, (n * depth, rows, columns, channels)))
    shape = (n * depth, out[2], out[3], kernel * out[4])
    taps = bb.emit(data_grad(pictures, _flat_weight(bb, w), shape, window))
    pixels = out[2] * out[3]
    apart = bb.emit(reshape(taps, (n, depth, pixels * groups, kernel, out[4] // groups)))
    # Long enough for every tap; cut to [front, front + out) at the end.
    length = max((depth - 1) * stride + 1 + (kernel - 1) * step, front + out[1])
    total: relax.Expr | None = None
    for p in range(kernel):
        tap = bb.emit(strided_slice(apart, [3], [p], [p + 1]))
        placed = _place(bb, bb.emit(reshape(tap, (n, depth, pixels, out[4]))), stride, p * step)
        behind = length - static_shape(placed)[1]
        placed = bb.emit(op.nn.pad(placed, [0, 0, 0, behind, 0, 0, 0, 0])) if behind else placed
        total = placed if total is None else bb.emit(op.add(total, placed))
    assert total is not None
    return reshape(bb.emit(strided_slice(total, [1], [front], [front + out[1]])), out)


def _place(bb: relax.BlockBuilder, x: relax.Expr, stride: int, first: int) -> relax.Expr:
    """Put entry o of axis 1 at o·stride + first, zeros between and before."""
    n, depth, *rest = static_shape(x)
    none = [0] * (2 * len(rest))
    if stride > 1:
        x = bb.emit(
            op.nn.pad(bb.emit(reshape(x, (n, depth, 1, *rest))), [0] * 5 + [stride - 1, *none])
        )
        x = bb.emit(reshape(x, (n, depth * stride, *rest)))
        x = bb.emit(strided_slice(x, [1], [0], [(depth - 1) * stride + 1]))
    return bb.emit(op.nn.pad(x, [0, 0, first, 0, *none])) if first else x


def _pool3d(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Pool the rectangles of each depth, then depths."""
    (x,) = call.args
    n, depth, rows, columns, channels = static_shape(x)
    out = static_shape(call)
    pictures = bb.emit(reshape(x, (n * depth, rows, columns, channels)))
    flat = bb.emit(_pool2d(call, pictures, (1, 2), out[2:4]))
    columns_of_depth = bb.emit(reshape(flat, (n, depth, out[2] * out[3], channels)))
    y = bb.emit(_pool2d(call, columns_of_depth, (0,), (out[1], out[2] * out[3])))
    return reshape(y, out)


def _pool2d(
    call: relax.Call, x: relax.Expr, axes: tuple[int, ...], size: tuple[int, ...]
) -> relax.Expr:
    """Apply a pool over ``axes`` of its three alone: over both axes of x, or over the first."""
    attrs = call.attrs
    pool: Callable[..., relax.Expr] = getattr(op.nn, call.op.name[len("relax.nn.") : -2] + "2d")
    if is_call_to(call, "relax.nn.adaptive_avg_pool3d"):
        return pool(x, size, layout="NHWC")

    def along(values: Any, neutral: int) -> list[int]:
        taken = [_ints(values)[axis] for axis in axes]
        return taken if len(taken) == 2 else [*taken, neutral]

    padding = _ints(attrs.padding)
    return pool(
        x,
        pool_size=along(attrs.pool_size, 1),
        strides=along(attrs.strides, 1),
        padding=[*along(padding[:3], 0), *along(padding[3:], 0)],
        dilation=along(attrs.dilation, 1),
        ceil_mode=attrs.ceil_mode,
        count_include_pad=attrs.count_include_pad,
        layout="NHWC",
    )

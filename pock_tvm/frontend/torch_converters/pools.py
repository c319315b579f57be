"""Adaptive maxima, and averages that are divided by a number of the user's.

TVM has no adaptive maximum, and drops the divisor.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tvm import relax

from pock_tvm.frontend.torch_converters.arguments import arguments, each

_AVERAGES = {2: relax.op.nn.avg_pool2d, 3: relax.op.nn.avg_pool3d}
_MAXIMA = {2: relax.op.nn.max_pool2d, 3: relax.op.nn.max_pool3d}


def convert_adaptive_max_pool(node: torch.fx.Node, importer: Any) -> relax.Var:
    """Window o of m over n entries is ⌊o·n/m⌋ … ⌈(o+1)·n/m⌉.

    Where windows differ in length, their entries are laid side by side, the last one repeated, and
    windows of one length follow; the first greatest entry stays the first.
    """
    x, size = importer.retrieve_args(node)[:2]
    bb, axes = importer.block_builder, x.ty.ndim - 2
    window = []
    for axis, outputs in zip(range(2, 2 + axes), size, strict=True):
        extent = int(x.ty.shape[axis])
        spans = [(o * extent // outputs, -(-(o + 1) * extent // outputs)) for o in range(outputs)]
        longest = max(end - begin for begin, end in spans)
        if extent != outputs * longest:
            places = [min(begin + k, end - 1) for begin, end in spans for k in range(longest)]
            x = bb.emit(relax.op.take(x, relax.const(np.array(places), "int32"), axis))
        window.append(longest)
    y = bb.emit(_MAXIMA[axes](x, pool_size=window, strides=window))
    return bb.emit(relax.Tuple([y, bb.emit(relax.op.zeros_like(y))]))


def convert_average_pool(axes: int, node: torch.fx.Node, importer: Any) -> relax.Var:
    """``avg_pool(x, window, stride, padding, ceil_mode, count_include_pad, divisor)``."""
    x, window, stride, padding, ceil_mode, include, divisor = arguments(
        node,
        importer,
        *([], 0, False, True, None),
    )
    window, padding = each(window, axes), each(padding, axes)
    stride = each(stride, axes) or window
    bb = importer.block_builder
    batch = [x.ty.shape[0]] if x.ty.ndim == axes + 1 else None
    if batch:
        x = bb.emit(relax.op.expand_dims(x, 0))
    y = bb.emit(
        _AVERAGES[axes](
            x,
            pool_size=window,
            strides=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=include or divisor is not None,
        )
    )
    if divisor is not None:
        counts = _counts(x, y, window, stride, padding)
        y = bb.emit(relax.op.multiply(y, relax.const(counts / divisor, str(x.ty.dtype))))
    return bb.emit(relax.op.squeeze(y, [0])) if batch else y


def _counts(
    x: relax.Expr,
    y: relax.Expr,
    window: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> np.ndarray:
    """Return how many pixels, border included, each window covers."""
    lengths = []
    for i in range(len(window)):
        begin = np.arange(int(y.ty.shape[i + 2])) * stride[i] - padding[i]
        end = np.minimum(begin + window[i], int(x.ty.shape[i + 2]) + padding[i])
        shape = [-1 if k == i else 1 for k in range(len(window))]
        lengths.append((end - begin).reshape(shape))
    return math.prod(lengths[1:], start=lengths[0])


CONVERTERS: dict[str, Callable[..., relax.Var]] = {
    "adaptive_max_pool2d.default": convert_adaptive_max_pool,
    "adaptive_max_pool3d.default": convert_adaptive_max_pool,
    "avg_pool2d.default": partial(convert_average_pool, 2),
    "avg_pool3d.default": partial(convert_average_pool, 3),
}

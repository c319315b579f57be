"""Matrix products and convolutions."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rule_case import Case, Shape, channels_first, channels_last
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.operators.conv2d import Window, data_grad


def conv2d(**window: Any) -> Callable[..., relax.Expr]:
    return lambda x, w: op.nn.conv2d(
        x, w, data_layout="NHWC", kernel_layout="HWIO", out_dtype="float64", **window
    )


def torch_conv2d(strides=1, padding=0, dilation=1, groups=1) -> Callable[..., Any]:
    def run(x, w):
        top, left, bottom, right = [padding] * 4 if isinstance(padding, int) else padding
        x = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        y = F.conv2d(x, w.permute(3, 2, 0, 1), None, strides, 0, dilation, groups)
        return y.permute(0, 2, 3, 1)

    return run


def conv_case(name: str, x: Shape, w: Shape, **window: Any) -> Case:
    return Case(f"conv2d-{name}", conv2d(**window), (x, w), torch=torch_conv2d(**window))


def transposed_case(name: str, x: Shape, w: Shape, out: Shape, **window: Any) -> Case:
    """A transposed convolution: the data gradient of the convolution of ``out`` with ``w``."""
    strides, dilation = window.get("strides", (1, 1)), window.get("dilation", (1, 1))
    padding, groups = window.get("padding", (0, 0)), window.get("groups", 1)
    padding = (*padding, *padding)
    reach = [
        (n - 1) * s + (k - 1) * d + 1 - 2 * p
        for n, s, k, d, p in zip(x[1:3], strides, w[:2], dilation, padding, strict=False)
    ]
    extra = [n - r for n, r in zip(out[1:3], reach, strict=True)]

    def theirs(x, w):
        w = w.permute(3, 2, 0, 1)
        options = (None, strides, padding[:2], extra, groups, dilation)
        return channels_last(F.conv_transpose2d(channels_first(x), w, *options))

    return Case(
        f"conv2d_data_grad-{name}",
        lambda x, w: data_grad(x, w, out, Window(strides, padding, dilation, groups)),
        (x, w),
        torch=theirs,
    )


LINEAR_ALGEBRA = [
    Case(f"matmul-{len(x)}d-{len(y)}d", op.matmul, (x, y), torch=torch.matmul)
    for x, y in [
        ((3, 4), (4, 5)),
        ((4,), (4,)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (4,)),
        ((3, 4), (2, 4, 5)),
        ((4,), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
    ]
] + [
    conv_case("plain", (2, 5, 6, 3), (3, 3, 3, 4)),
    conv_case("stride", (1, 7, 6, 2), (3, 3, 2, 3), strides=(2, 3), padding=(1, 1, 1, 1)),
    conv_case("uneven-pad", (1, 5, 5, 2), (2, 3, 2, 3), strides=(2, 2), padding=(0, 1, 1, 2)),
    conv_case("dilation", (1, 8, 7, 2), (3, 2, 2, 3), dilation=(2, 3), padding=(2, 1, 2, 1)),
    conv_case("groups", (1, 4, 4, 4), (3, 3, 2, 6), groups=2, padding=(1, 1, 1, 1)),
    conv_case("depthwise", (2, 5, 5, 3), (3, 3, 1, 3), groups=3, strides=(2, 2)),
    conv_case("pointwise", (2, 3, 3, 4), (1, 1, 4, 5)),
    transposed_case("plain", (2, 3, 4, 5), (3, 2, 3, 5), (2, 5, 5, 3)),
    transposed_case(
        "stride", (1, 3, 4, 3), (3, 3, 2, 3), (1, 6, 9, 2), strides=(2, 2), padding=(1, 0)
    ),
    transposed_case(
        "groups", (1, 3, 3, 4), (2, 3, 2, 4), (1, 6, 3, 4), strides=(2, 1), groups=2, padding=(0, 1)
    ),
    transposed_case(
        "dilation", (1, 4, 3, 2), (3, 2, 2, 2), (1, 10, 6, 2), dilation=(3, 2), padding=(1, 0)
    ),
]

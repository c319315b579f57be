"""Convolutions and transposed convolutions of one, two and three axes.

TVM's converters fix the result to float32 and know no transposed convolution of three axes.
"""

from collections.abc import Callable
from typing import Any

import torch
from tvm import relax

from pock_tvm.frontend.torch_converters.arguments import each

_CONVOLUTIONS = {1: relax.op.nn.conv1d, 2: relax.op.nn.conv2d, 3: relax.op.nn.conv3d}
_TRANSPOSED = {
    1: relax.op.nn.conv1d_transpose,
    2: relax.op.nn.conv2d_transpose,
    3: relax.op.nn.conv3d_transpose,
}


def convert_convolution(node: torch.fx.Node, importer: Any) -> relax.Var:
    """y = x ∗ w + bias, or the transposed convolution, over all axes behind the channels."""
    x, w, bias, stride, padding, dilation, transposed, output_padding, groups = (
        importer.retrieve_args(node)
    )
    axes = x.ty.ndim - 2
    stride, padding, dilation = (each(v, axes) for v in (stride, padding, dilation))
    window: dict[str, Any] = {"strides": stride, "dilation": dilation, "groups": groups}
    bb = importer.block_builder
    if transposed:
        crop, behind = _outer_edge(padding, each(output_padding, axes))
        build: Callable[..., relax.Expr] = _TRANSPOSED[axes]
        y = bb.emit(build(x, w, padding=[*padding, *crop], **window))
        if any(behind):
            widths = [0] * 4 + [width for after in behind for width in (0, after)]
            y = bb.emit(relax.op.nn.pad(y, widths))
    else:
        y = bb.emit(_CONVOLUTIONS[axes](x, w, padding=padding, **window))
    if bias is None:
        return y
    return bb.emit(relax.op.add(y, relax.op.reshape(bias, (1, -1, *[1] * axes))))


def _outer_edge(padding: list[int], output_padding: list[int]) -> tuple[list[int], list[int]]:
    """Return how much of a transposed convolution to cut off behind, or else how many zeros follow.

    Relax wants an output padding below the stride; PyTorch takes one below the dilation too.
    """
    pairs = list(zip(padding, output_padding, strict=True))
    return [max(p - extra, 0) for p, extra in pairs], [max(extra - p, 0) for p, extra in pairs]


CONVERTERS = {"convolution.default": convert_convolution}

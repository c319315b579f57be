"""Convolutions and transposed convolutions of one, two and three axes.

TVM's converters fix the result to float32 and know no transposed convolution of three axes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import relax

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
    window: dict[str, Any] = {
        "strides": _each(stride, axes),
        "padding": _each(padding, axes),
        "dilation": _each(dilation, axes),
        "groups": groups,
    }
    bb = importer.block_builder
    build: Callable[..., relax.Expr] = _TRANSPOSED[axes] if transposed else _CONVOLUTIONS[axes]
    if transposed:
        window["output_padding"] = _each(output_padding, axes)
    y = bb.emit(build(x, w, **window))
    if bias is None:
        return y
    return bb.emit(relax.op.add(y, relax.op.reshape(bias, (1, -1, *[1] * axes))))


def _each(values: int | Sequence[int], axes: int) -> list[int]:
    """Return one number per axis; PyTorch gives a single one for all of them too."""
    numbers = [values] if isinstance(values, int) else list(values)
    return numbers * axes if len(numbers) == 1 else numbers


CONVERTERS = {"convolution.default": convert_convolution}

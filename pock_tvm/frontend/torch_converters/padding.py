"""Borders of zeros, constants or copies; widths below zero cut off.

PyTorch writes circular borders out as copies into slices, and TVM hands negative widths on.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tvm import relax

from pock_tvm.frontend.torch_converters.arguments import arguments


def convert_pad(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``pad(x, widths of the last axis, then of the one before it, …, mode, value)``."""
    x, widths, mode, value = arguments(node, importer, "constant", None)
    return _pad(importer, x, widths, mode, value or 0)


def convert_constant_pad(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``constant_pad_nd(x, widths, value)``."""
    x, widths, value = arguments(node, importer, 0)
    return _pad(importer, x, widths, "constant", value)


def _pad(importer: Any, x: relax.Expr, widths: Sequence[int], mode: str, value: float) -> relax.Var:
    rank, bb = x.ty.ndim, importer.block_builder
    borders = [(0, 0)] * (rank - len(widths) // 2)
    borders += list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    shape = [int(extent) for extent in x.ty.shape]
    cut = [axis for axis, border in enumerate(borders) if min(border) < 0]
    if cut:
        begin = [max(-borders[axis][0], 0) for axis in cut]
        end = [shape[axis] - max(-borders[axis][1], 0) for axis in cut]
        x = bb.emit(relax.op.strided_slice(x, cut, begin, end))
    added = [max(width, 0) for border in borders for width in border]
    if not any(added):
        return x
    return bb.emit(relax.op.nn.pad(x, added, pad_mode=mode, pad_value=float(value)))


CONVERTERS = {"pad.default": convert_pad, "constant_pad_nd.default": convert_constant_pad}

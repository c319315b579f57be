"""Borders of zeros, constants or copies; widths below zero cut off.

PyTorch writes circular borders out as copies into slices, and TVM hands negative widths on.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tvm import relax


def convert_pad(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``pad(x, widths of the last axis, then of the one before it, …, mode, value)``."""
    args = importer.retrieve_args(node)
    mode = args[2] if len(args) > 2 else node.kwargs.get("mode", "constant")
    value = args[3] if len(args) > 3 else node.kwargs.get("value")
    return _pad(importer, args[0], args[1], mode, value or 0)


def convert_constant_pad(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``constant_pad_nd(x, widths, value)``."""
    args = importer.retrieve_args(node)
    value = args[2] if len(args) > 2 else node.kwargs.get("value", 0)
    return _pad(importer, args[0], args[1], "constant", value)


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

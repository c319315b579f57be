"""Interpolation of one, two and three axes: a resampling along each.

PyTorch writes most of it out as indexed arithmetic, and TVM drops antialiasing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tvm import relax

from pock_tvm.relay_passes import interpolation
from pock_tvm.relay_passes.interpolation import Tables, torch_nearest, torch_positions, torch_scale
from pock_tvm.relay_passes.operators.resample import resample

AxisTables = Callable[[int, int, float | None, bool], Tables]
"""(entries, outputs, scale factor, align_corners) -> tables."""


def _nearest(n: int, m: int, factor: float | None, align: bool, *, exact: bool) -> Tables:  # noqa: FBT001
    return interpolation.nearest(torch_nearest(n, m, factor, exact=exact), n)


def _linear(n: int, m: int, factor: float | None, align: bool) -> Tables:  # noqa: FBT001
    return interpolation.linear(torch_positions(n, m, factor, align_corners=align), n)


def _cubic(n: int, m: int, factor: float | None, align: bool) -> Tables:  # noqa: FBT001
    return interpolation.cubic(torch_positions(n, m, factor, align_corners=align), n)


def _antialiased(n: int, m: int, factor: float | None, align: bool, *, cubic: bool) -> Tables:  # noqa: FBT001
    scale = ((n - 1) / (m - 1) if m > 1 else 0.0) if align else torch_scale(n, m, factor)
    return interpolation.antialiased(n, m, scale, cubic_filter=cubic)


def _convert(tables: AxisTables, node: torch.fx.Node, importer: Any) -> relax.Var:
    """``upsample…(x, output_size, [align_corners], scale_factors)``."""
    args = importer.retrieve_args(node)
    x, size, factors = args[0], args[1], args[-1]
    align = bool(args[2]) if len(args) == 4 else False
    for i in range(x.ty.ndim - 2):
        extent = int(x.ty.shape[i + 2])
        factor = float(factors[i]) if factors else None
        outputs = int(size[i]) if factor is None else int(extent * factor)
        y = resample(x, *tables(extent, outputs, factor, align), i + 2)
        x = importer.block_builder.emit(y)
    return x


TABLES: dict[str, AxisTables] = {
    **{f"upsample_nearest{n}d": partial(_nearest, exact=False) for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": partial(_nearest, exact=True) for n in (1, 2, 3)},
    "upsample_linear1d": _linear,
    "upsample_bilinear2d": _linear,
    "upsample_trilinear3d": _linear,
    "upsample_bicubic2d": _cubic,
    "_upsample_bilinear2d_aa": partial(_antialiased, cubic=False),
    "_upsample_bicubic2d_aa": partial(_antialiased, cubic=True),
}

CONVERTERS = {f"{name}.vec": partial(_convert, tables) for name, tables in TABLES.items()}

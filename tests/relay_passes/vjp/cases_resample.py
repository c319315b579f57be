"""Resampling along an axis: nearest, linear, cubic, antialiased; taps that meet, taps unused."""

from typing import Any

import numpy as np
import torch
from rule_case import Case, Shape
from tvm import relax

from pock_tvm.relay_passes.interpolation import Tables, antialiased, cubic, linear, nearest
from pock_tvm.relay_passes.operators.resample import resample


def resample_case(name: str, shape: Shape, axis: int, tables: Tables) -> Case:
    """y = A x along an axis, where A is written out as a matrix for PyTorch."""
    places, weights = tables
    matrix = np.zeros((len(places), shape[axis]))
    np.add.at(matrix, (np.arange(len(places))[:, None], places), weights)

    def ours(x: relax.Expr) -> relax.Expr:
        return resample(x, places, weights, axis)

    def theirs(x: torch.Tensor) -> Any:
        return torch.tensordot(x, torch.tensor(matrix), ([axis], [1])).movedim(-1, axis)

    return Case(f"resample-{name}", ours, (shape,), torch=theirs)


AT = np.array([-0.4, 0.1, 0.75, 2.0, 3.3])

RESAMPLE = [
    resample_case("nearest", (2, 5, 3), 1, nearest(np.array([0, 0, 3, 4, 4, 1]), 5)),
    resample_case("linear", (2, 4, 3), 1, linear(AT, 4)),
    resample_case("cubic", (2, 3, 4), 2, cubic(AT, 4)),
    resample_case("cubic-exclude", (4, 3), 0, cubic(AT, 4, -0.5, exclude_outside=True)),
    resample_case("antialiased", (7, 2), 0, antialiased(7, 3, 7 / 3, cubic_filter=True)),
]

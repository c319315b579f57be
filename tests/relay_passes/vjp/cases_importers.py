"""Operators that importers make of a single layer, and scatters that multiply or compete."""

import torch
import torch.nn.functional as F
from rule_case import Case, M, ints
from tvm.relax import op

T = torch.tensor
CUBE = ((2, 3, 4),)
PLACES = [[0, 2, 2, 1], [1, 2, 2, 2]]


def elements(reduction: str, name: str) -> Case:
    return Case(
        f"scatter_elements-{reduction}",
        lambda x, u: op.scatter_elements(x, ints(PLACES), u, 0, reduction),
        (*M, (2, 4)),
        torch=lambda x, u: x.scatter_reduce(0, T(PLACES), u, name),
    )


def rows(reduction: str, name: str) -> Case:
    # PyTorch has no scatter of rows that multiplies: its indices are those of elements.
    return Case(
        f"scatter_nd-{reduction}",
        lambda x, u: op.scatter_nd(x, ints([[2], [0], [2]]), u, reduction),
        (*M, (3, 4)),
        torch=lambda x, u: x.scatter_reduce(0, T([[2] * 4, [0] * 4, [2] * 4]), u, name),
    )


IMPORTERS = [
    Case(
        "prelu",
        lambda x, a: op.nn.prelu(x, a, 1),
        (*CUBE, (3,)),
        torch=lambda x, a: F.prelu(x, a),
    ),
    Case(
        "prelu-last",
        lambda x, a: op.nn.prelu(x, a, -1),
        ((3, 4), (4,)),
        torch=lambda x, a: F.prelu(x, a),
    ),
    Case("selu", op.nn.selu, M, torch=F.selu),
    Case(
        "median-axis",
        lambda x: op.median(x, [1]),
        CUBE,
        torch=lambda x: x.median(1),
    ),
    Case("median", op.median, M, torch=torch.median),
    Case(
        "meshgrid",
        lambda x, y: op.meshgrid([x, y], "ij"),
        ((3,), (2,)),
        torch=lambda x, y: torch.meshgrid(x, y, indexing="ij"),
    ),
    Case(
        "reverse_sequence",
        lambda x: op.reverse_sequence(x, ints([1, 4, 3]), 1, 0),
        ((3, 4, 2),),
        torch=lambda x: torch.stack([x[0], x[1].flip(0), x[2][[2, 1, 0, 3]]]),
    ),
    *(elements(*pair) for pair in [("mul", "prod"), ("max", "amax"), ("min", "amin")]),
    *(rows(*pair) for pair in [("mul", "prod"), ("max", "amax"), ("min", "amin")]),
]

"""Operators that pick elements by position."""

import torch
from rule_case import Case, M, ints
from tvm.relax import op

INDEX = [
    Case(
        "take-wrap",
        lambda x: op.take(x, ints([-1, 4, 1]), axis=0, mode="wrap"),
        M,
        torch=lambda x: x[torch.tensor([2, 1, 1])],
    ),
    Case(
        "take-clip",
        lambda x: op.take(x, ints([-1, 9, 1]), axis=1, mode="clip"),
        M,
        torch=lambda x: x[:, torch.tensor([0, 3, 1])],
    ),
    Case(
        "take",
        lambda x: op.take(x, ints([2, 0, 2]), axis=0),
        M,
        torch=lambda x: x[torch.tensor([2, 0, 2])],
    ),
    Case(
        "take-2d",
        lambda x: op.take(x, ints([[2, 0], [2, 2]]), axis=-2),
        ((2, 3, 4),),
        torch=lambda x: x[:, torch.tensor([[2, 0], [2, 2]])],
    ),
    Case(
        "take-scalar", lambda x: op.take(x, ints(1), axis=1), ((2, 3, 4),), torch=lambda x: x[:, 1]
    ),
]

"""Reductions over axes."""

import torch
from rule_case import Case, M
from tvm.relax import op

REDUCE = [
    Case("sum", op.sum, M, torch=torch.sum),
    Case("sum-axis", lambda x: op.sum(x, [-2]), ((2, 3, 4),), torch=lambda x: x.sum(-2)),
    Case("mean", op.mean, M, torch=torch.mean),
    Case(
        "mean-axes",
        lambda x: op.mean(x, [-1, 1], keepdims=True),
        ((2, 3, 4),),
        torch=lambda x: x.mean((1, 2), keepdim=True),
    ),
    Case("max", lambda x: op.max(x, [0]), M, torch=lambda x: x.amax(0)),
    Case("min", lambda x: op.min(x, [1], keepdims=True), M, torch=lambda x: x.amin(1, True)),
    Case(
        "variance",
        lambda x: op.variance(x, [1]),
        ((2, 5, 3),),
        torch=lambda x: x.var(1, correction=0),
    ),
]

REDUCE += [
    Case("std", lambda x: op.std(x, [0]), M, torch=lambda x: x.std(0, correction=0)),
    Case("cumsum", lambda x: op.cumsum(x, -2), M, torch=lambda x: x.cumsum(-2)),
    Case("cumsum-exclusive", lambda x: op.cumsum(x, 1, exclusive=True), M),
    Case("cumsum-flat", op.cumsum, M, torch=lambda x: x.flatten().cumsum(0)),
]

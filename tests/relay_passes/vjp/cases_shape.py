"""Operators that move elements."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rule_case import Case, M
from tvm import relax
from tvm.relax import op


def cat(*xs):
    return torch.cat(xs, -1)


def slice_case(name: str, at: tuple[slice, ...]) -> Case:
    """x[at] of a 5 x 8 tensor."""
    far = [(0, 100) if (s.step or 1) > 0 else (100, -100) for s in at]
    begin = [lo if s.start is None else s.start for s, (lo, _) in zip(at, far, strict=True)]
    end = [hi if s.stop is None else s.stop for s, (_, hi) in zip(at, far, strict=True)]
    strides = [s.step or 1 for s in at]
    places = torch.arange(40).reshape(5, 8).numpy()[at].copy()
    return Case(
        f"strided_slice-{name}",
        lambda x: op.strided_slice(x, list(range(len(at))), begin, end, strides),
        ((5, 8),),
        torch=lambda x: x.flatten()[torch.tensor(places)],  # PyTorch has no negative strides
    )


def padded(mode: str) -> Callable[..., relax.Expr]:
    return lambda x: op.nn.pad(x, [0, 0, 1, 2, 0, 2], mode, 0.5)


def torch_padded(mode: str) -> Callable[..., Any]:
    value = {"value": 0.5} if mode == "constant" else {}
    return lambda x: F.pad(x[None], (0, 2, 1, 2), mode, **value)[0]


SHAPE = [
    Case("reshape", lambda x: op.reshape(x, (2, 6)), M, torch=lambda x: x.reshape(2, 6)),
    Case("flatten", op.flatten, M, torch=torch.flatten),
    Case(
        "expand_dims", lambda x: op.expand_dims(x, [0, -1]), M, torch=lambda x: x[None, ..., None]
    ),
    Case("squeeze", lambda x: op.squeeze(x, [1]), ((3, 1, 4),), torch=lambda x: x.squeeze(1)),
    Case("permute_dims", op.permute_dims, ((2, 3, 4),), torch=lambda x: x.permute(2, 1, 0)),
    Case(
        "permute_dims-axes",
        lambda x: op.permute_dims(x, [1, -1, 0]),
        ((2, 3, 4),),
        torch=lambda x: x.permute(1, 2, 0),
    ),
    Case(
        "broadcast_to",
        lambda x: op.broadcast_to(x, (2, 3, 4)),
        ((3, 1),),
        torch=lambda x: x.expand(2, 3, 4),
    ),
    Case("full", lambda v: op.full((2, 3), v), ((),), torch=lambda v: v.expand(2, 3)),
    Case("full_like", lambda v: op.full_like(relax.const(np.ones((2, 3)), "float64"), v), ((),)),
    Case("concat", lambda x, y, z: op.concat([x, y, z], -1), ((2, 3), (2, 1), (2, 2)), torch=cat),
    Case(
        "stack", lambda x, y: op.stack([x, y], -2), (*M, *M), torch=lambda *xs: torch.stack(xs, -2)
    ),
    Case("split", lambda x: op.split(x, 2, -1), M, torch=lambda x: x.split(2, -1)),
    Case("split-at", lambda x: op.split(x, [1, 3], 1), M, torch=lambda x: x.split([1, 2, 1], 1)),
    Case("flip", lambda x: op.flip(x, -1), M, torch=lambda x: x.flip(-1)),
    slice_case("plain", np.s_[:, 1:3]),
    slice_case("strided", np.s_[::2, 1:7:3]),
    slice_case("sticks-out", np.s_[1::3, ::4]),
    slice_case("backwards", np.s_[::-1, 6:0:-2]),
    slice_case("negative-bounds", np.s_[-3:-1, -100:100]),
    *(
        Case(f"pad-{mode}", padded(mode), ((1, 4, 3),), torch=torch_padded(mode))
        for mode in ("constant", "reflect", "replicate", "circular")
    ),
    Case("repeat", lambda x: op.repeat(x, 3, -2), M, torch=lambda x: x.repeat_interleave(3, -2)),
    Case("repeat-flat", lambda x: op.repeat(x, 2), ((4,),), torch=lambda x: x.repeat_interleave(2)),
    Case("tile", lambda x: op.tile(x, (2, 1, 3)), M, torch=lambda x: x.tile(2, 1, 3)),
    Case("tile-short", lambda x: op.tile(x, (2,)), M, torch=lambda x: x.tile(2)),
]

"""Normalizations, softmax, losses, dropout and pools."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rule_case import Case, M, Shape, channels_first, channels_last, ints, number
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.operators.attention import attention
from pock_tvm.relay_passes.operators.cross_entropy import cross_entropy
from pock_tvm.relay_passes.operators.dropout import dropout
from pock_tvm.relay_passes.operators.pointwise_loss import POINTWISE, pointwise_loss


def pool_case(kind: str, x: Shape, window: int, **options: Any) -> Case:
    ours, theirs = (
        (op.nn.max_pool2d, F.max_pool2d)
        if kind == "max"
        else (
            op.nn.avg_pool2d,
            F.avg_pool2d,
        )
    )
    torch_options = {k.replace("strides", "stride"): v for k, v in options.items()}
    if kind == "avg":
        torch_options.setdefault("count_include_pad", False)
    return Case(
        f"{kind}_pool2d-{window}-{'-'.join(f'{k}={v}' for k, v in options.items())}",
        lambda x: ours(x, (window, window), layout="NHWC", **options),
        (x,),
        torch=lambda x: channels_last(theirs(channels_first(x), window, **torch_options)),
    )


def entropy(labels: Any, **options: Any) -> dict[str, Any]:
    return {
        "op": lambda x: cross_entropy(x, ints(labels), **options),
        "torch": lambda x: F.cross_entropy(x, torch.tensor(labels), **options),
    }


def pointwise(kind: str, option: float = 1.0) -> Callable[..., relax.Expr]:
    return lambda x: pointwise_loss(x, number([0.3, -1.2, 0.9, 1.7]), kind, option)


NN = [
    Case("softmax", op.nn.softmax, M, torch=lambda x: F.softmax(x, -1)),
    Case("softmax-axis", lambda x: op.nn.softmax(x, 1), ((2, 3, 4),), torch=lambda x: x.softmax(1)),
    Case("log_softmax", op.nn.log_softmax, M, torch=lambda x: F.log_softmax(x, -1)),
    Case(
        "layer_norm",
        lambda x, g, b: op.nn.layer_norm(x, g, b, axes=[-1], epsilon=1e-5),
        ((2, 3, 6), (6,), (6,)),
        torch=lambda x, g, b: F.layer_norm(x, (6,), g, b, 1e-5),
    ),
    Case(
        "layer_norm-two-axes",
        lambda x, g, b: op.nn.layer_norm(x, g, b, axes=[-2, -1], epsilon=1e-3),
        ((2, 3, 4), (3, 4), (3, 4)),
        torch=lambda x, g, b: F.layer_norm(x, (3, 4), g, b, 1e-3),
    ),
    Case(
        "layer_norm-inner-axis",
        lambda x, g, b: op.nn.layer_norm(x, g, b, axes=[1], epsilon=1e-3),
        ((2, 3, 4), (3,), (3,)),
        torch=lambda x, g, b: F.layer_norm(x.mT, (3,), g, b, 1e-3).mT,
    ),
    Case(
        "rms_norm-inner-axis",
        lambda x, g: op.nn.rms_norm(x, g, axes=[1], epsilon=1e-3),
        ((2, 3, 4), (3,)),
        torch=lambda x, g: F.rms_norm(x.mT, (3,), g, 1e-3).mT,
    ),
    *(Case(f"pointwise_loss-{kind}", pointwise(kind, 0.5), ((4,),)) for kind in POINTWISE),
    Case("cross_entropy", shapes=((3, 4),), **entropy([1, 0, 3])),
    Case(
        "cross_entropy-smooth",
        shapes=((4, 3),),
        **entropy([1, -100, 2, 0], label_smoothing=0.1),
    ),
    Case(
        "cross_entropy-ignore",
        shapes=((4, 3),),
        **entropy([1, 0, 2, 0], ignore_index=0),
    ),
]

NN += [
    Case(
        "group_norm",
        lambda x, g, b: op.nn.group_norm(x, g, b, 2, 1, [2, 3], 1e-4),
        ((2, 6, 3, 2), (6,), (6,)),
        torch=lambda x, g, b: F.group_norm(x, 2, g, b, 1e-4),
    ),
    Case(
        "group_norm-channels-last",
        lambda x, g, b: op.nn.group_norm(x, g, b, 3, -1, [1, 2], 1e-4),
        ((2, 3, 2, 6), (6,), (6,)),
        torch=lambda x, g, b: channels_last(F.group_norm(channels_first(x), 3, g, b, 1e-4)),
    ),
    Case("softplus", lambda x: op.nn.softplus(x, 2.0, 3.0), M, torch=lambda x: F.softplus(x, 2, 3)),
    Case(
        "rms_norm",
        lambda x, g: op.nn.rms_norm(x, g, axes=[-1], epsilon=1e-5),
        ((2, 3, 6), (6,)),
        torch=lambda x, g: F.rms_norm(x, (6,), g, 1e-5),
    ),
    pool_case("max", (1, 4, 6, 2), 2, strides=2),
    pool_case("max", (2, 7, 6, 2), 3, strides=2, padding=1),
    pool_case("max", (1, 9, 8, 2), 3, strides=2, padding=1, dilation=2),
    pool_case("max", (1, 6, 6, 2), 3, strides=2, padding=1, ceil_mode=True),
    pool_case("avg", (1, 4, 6, 2), 2, strides=2),
    pool_case("avg", (2, 7, 6, 2), 3, strides=2, padding=1),
    pool_case("avg", (1, 6, 6, 2), 3, strides=2, padding=1, count_include_pad=True),
    pool_case("avg", (1, 6, 7, 2), 3, strides=2, padding=1, ceil_mode=True),
    pool_case("avg", (1, 6, 7, 2), 3, strides=2, ceil_mode=True, count_include_pad=True),
    *(
        Case(
            f"adaptive_avg_pool2d-{height}x{width}",
            lambda x, size=(height, width): op.nn.adaptive_avg_pool2d(x, size, "NHWC"),
            ((2, 6, 7, 2),),
            torch=lambda x, size=(height, width): channels_last(
                F.adaptive_avg_pool2d(channels_first(x), size)
            ),
        )
        for height, width in [(1, 1), (3, 7), (4, 3), (8, 2)]
    ),
]

ALLOWED = np.where(np.tril(np.ones((70, 5)), -66) > 0, -np.inf, 0.0)

NN += [
    Case(
        "attention",
        lambda q, k, v: attention(q, k, v, [], 0.5),
        ((2, 3, 4), (2, 4, 5), (2, 5, 6)),
        torch=lambda q, k, v: F.scaled_dot_product_attention(q, k.mT, v, scale=0.5),
    ),
    Case(
        "attention-tiles-masked",  # 64 queries, and 6 more
        lambda q, k, v: attention(q, k, v, [relax.const(ALLOWED, "float64")], 0.5),
        ((2, 70, 4), (2, 4, 5), (2, 5, 6)),
        torch=lambda q, k, v: F.scaled_dot_product_attention(
            q, k.mT, v, torch.tensor(ALLOWED), scale=0.5
        ),
    ),
]

KEYS = ints([[1, 2], [3, 4]])

DROPOUT = [
    Case("dropout", lambda x: dropout(x, KEYS, p=0.3, stream=1), ((3, 7),)),
    Case("dropout-rows", lambda x: dropout(x, KEYS, p=0.6, stream=0, shared=[1]), ((9, 2),)),
]

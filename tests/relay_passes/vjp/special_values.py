"""Values where a derivative is a matter of choice, or where a careless formula overflows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases_nn import entropy
from rule_case import Shape, channels_first, channels_last
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.operators.pointwise_loss import pointwise_loss


@dataclass(frozen=True)
class Special:
    """One operator at values where its derivative is a matter of choice, against PyTorch."""

    name: str
    op: Callable[..., relax.Expr]
    values: tuple[Any, ...]
    torch: Callable[..., Any]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return tuple(np.shape(v) for v in self.values)

    def operands(self, _rng: np.random.Generator) -> list[np.ndarray]:
        return [np.asarray(v, "float64") for v in self.values]


SPECIAL = [
    Special("relu-at-0", op.nn.relu, ([-0.0, 0.0, 1.0, -1.0],), F.relu),
    Special("clip-at-bounds", lambda x: op.clip(x, 0, 6), ([0.0, 6.0, 3.0, 7.0, -1.0],), F.relu6),
    Special(
        "clip-one-sided",
        lambda x: op.clip(x, 0, float("inf")),
        ([-1.0, 0.5, 1e300],),
        lambda x: x.clamp(min=0),
    ),
    Special(
        "leakyrelu-at-0",
        lambda x: op.nn.leakyrelu(x, 0.1),
        ([0.0],),
        lambda x: F.leaky_relu(x, 0.1),
    ),
    Special("abs-at-0", op.abs, ([0.0, -1.0],), torch.abs),
    Special("maximum-tie", op.maximum, ([1.0, 2.0], [1.0, 3.0]), torch.maximum),
    Special("minimum-tie", op.minimum, ([1.0, 2.0], [1.0, 3.0]), torch.minimum),
    Special("max-tie", op.max, ([1.0, 3.0, 3.0, 3.0],), torch.amax),
    Special("min-tie", lambda x: op.min(x, [1]), ([[1.0, 1.0], [2.0, 0.0]],), lambda x: x.amin(1)),
    Special(
        "max_pool2d-tie",
        lambda x: op.nn.max_pool2d(x, (2, 2), (1, 1), layout="NHWC"),
        (np.array([[1, 1, 0], [1, 1, 2], [2, 2, 2]]).reshape(1, 3, 3, 1),),
        lambda x: channels_last(F.max_pool2d(channels_first(x), 2, 1)),
    ),
    Special(
        "l1-at-0",
        lambda x: pointwise_loss(x, relax.const(np.zeros(3), "float64"), "l1"),
        ([0.0, 1.0, -1.0],),
        lambda x: x.abs().mean(),
    ),
    Special(
        "huber-at-its-bend",
        lambda x: pointwise_loss(x, relax.const(np.zeros(3), "float64"), "huber", 0.5),
        ([0.5, -0.5, 0.0],),
        lambda x: F.huber_loss(x, torch.zeros(3).double(), delta=0.5),
    ),
    Special(
        "smooth-l1-at-its-bend",
        lambda x: pointwise_loss(x, relax.const(np.zeros(3), "float64"), "smooth_l1", 0.5),
        ([0.5, -0.5, 0.0],),
        lambda x: F.smooth_l1_loss(x, torch.zeros(3).double(), beta=0.5),
    ),
    Special(
        "bce-large",
        lambda x: pointwise_loss(x, relax.const(np.array([0.0, 1.0, 1.0]), "float64"), "bce", 2.0),
        ([-1e4, 1e4, -800.0],),
        lambda x: F.binary_cross_entropy_with_logits(
            x, torch.tensor([0.0, 1.0, 1.0]).double(), pos_weight=torch.tensor(2.0).double()
        ),
    ),
    Special("power-at-0", op.power, ([0.0, 0.0, 2.0], [0.0, 2.0, 0.0]), torch.pow),
    Special("softmax-large", op.nn.softmax, ([[1e4, 0.0, -1e4]],), lambda x: F.softmax(x, -1)),
    Special("gelu-far", op.nn.gelu, ([-40.0, 0.0, 40.0],), F.gelu),
    Special(
        "cross_entropy-large", values=([[1e4, 0.0, -1e4], [0.0, 0.0, 1e4]],), **entropy([0, 1])
    ),
    Special("cross_entropy-all-ignored", values=(np.ones((2, 3)),), **entropy([-100, -100])),
    Special(
        "cross_entropy-all-ignored-smooth",
        values=(np.ones((2, 3)),),
        **entropy([-100, -100], label_smoothing=0.2),
    ),
]

"""Optimizers: how a gradient changes a weight. Descriptions only.

``AppendOptimizer`` builds the graph. The learning rate is an input of every step, not part of the
description.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pock_tvm.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent as in ``torch.optim.SGD`` (no dampening).

    g ← g + λ·w;  m ← μ·m + g;  w ← w - η·m, or w - η·(g + μ·m) with Nesterov.
    """

    name: ClassVar[str] = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise UnknownNameError("nesterov needs a momentum above 0")

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the tensors kept per weight between steps."""
        return ("momentum",) if self.momentum else ()


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019) as in ``torch.optim.AdamW``.

    w ← w - η·λ·w;  m ← β₁·m + (1 - β₁)·g;  v ← β₂·v + (1 - β₂)·g²;
    w ← w - η / (1 - β₁ᵗ) · m / (√(v / (1 - β₂ᵗ)) + ε).
    """

    name: ClassVar[str] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the tensors kept per weight between steps."""
        return ("moment1", "moment2")


Optimizer = SGD | AdamW
OPTIMIZERS: dict[str, type[SGD] | type[AdamW]] = {o.name: o for o in (SGD, AdamW)}


def make_optimizer(name: str, **options: Any) -> Optimizer:
    """Build an optimizer by name.

    Raises:
        UnknownNameError: no optimizer has that name, or it has no such option.
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError(f"unknown optimizer {name!r}; known are {', '.join(OPTIMIZERS)}")
    try:
        return OPTIMIZERS[name](**options)
    except TypeError:
        raise UnknownNameError(
            f"optimizer {name!r} has no option among {sorted(options)}"
        ) from None


def describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return the optimizer as plain data for the manifest."""
    return {"name": optimizer.name, **asdict(optimizer)}

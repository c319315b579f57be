"""Optimizers: how a gradient changes a weight. Descriptions only.

``AppendOptimizer`` builds the graph. The learning rate is an input of every step, not part of the
description. In the equations w is the weight, g its gradient, η the rate, λ ``weight_decay``.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, TypeVar

from pock_tvm.named_options import build, require, split_reference

Shape = tuple[int, ...]

O = TypeVar("O", bound="_Optimizer")  # noqa: E741


@dataclass(frozen=True, kw_only=True)
class _Optimizer:
    """What all of them have."""

    name: ClassVar[str]
    shared: ClassVar[tuple[str, ...]] = ()
    """Float64 scalars that all weights share."""

    weight_decay: float = 0.0
    decay_matrices_only: bool = False
    """Leave tensors of one axis alone: biases, and the scales and shifts of norms."""

    def __post_init__(self) -> None:
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; it must be ≥ 0")

    def slots_of(self, shape: Shape) -> dict[str, Shape]:
        """Return the tensors kept for a weight of that shape between steps, by name."""
        raise NotImplementedError

    def for_weight(self: O, shape: Shape) -> O:
        """Return the optimizer as it treats a weight of that shape."""
        spared = self.decay_matrices_only and len(shape) < 2
        return replace(self, weight_decay=0.0) if spared else self


@dataclass(frozen=True, kw_only=True)
class SGD(_Optimizer):
    """Stochastic gradient descent as in ``torch.optim.SGD`` (no dampening).

    g ← g + λ·w;  m ← μ·m + g;  w ← w - η·m, or w - η·(g + μ·m) with Nesterov.
    """

    name: ClassVar[str] = "sgd"
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.momentum < 1, f"momentum is {self.momentum}; it must be in [0, 1)")
        require(not self.nesterov or bool(self.momentum), "nesterov needs a momentum above 0")

    def slots_of(self, shape: Shape) -> dict[str, Shape]:
        """One tensor, or none without momentum."""
        return {"momentum": shape} if self.momentum else {}


@dataclass(frozen=True, kw_only=True)
class _Moments(_Optimizer):
    """Running means of the gradient and of its square, each with its bias correction."""

    shared: ClassVar[tuple[str, ...]] = ("correction1", "correction2")
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_betas(self.beta1, self.beta2)
        require(self.eps > 0, f"eps is {self.eps}; it must be above 0")

    def slots_of(self, shape: Shape) -> dict[str, Shape]:
        """Two tensors."""
        return {"moment1": shape, "moment2": shape}


@dataclass(frozen=True, kw_only=True)
class Adam(_Moments):
    """Adam (Kingma & Ba 2015) as in ``torch.optim.Adam``; the decay is part of the gradient.

    g ← g + λ·w;  m ← β₁·m + (1 - β₁)·g;  v ← β₂·v + (1 - β₂)·g²;
    w ← w - η / (1 - β₁ᵗ) · m / (√(v / (1 - β₂ᵗ)) + ε).
    """

    name: ClassVar[str] = "adam"


@dataclass(frozen=True, kw_only=True)
class AdamW(_Moments):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019) as in ``torch.optim.AdamW``.

    w ← w - η·λ·w;  m ← β₁·m + (1 - β₁)·g;  v ← β₂·v + (1 - β₂)·g²;
    w ← w - η / (1 - β₁ᵗ) · m / (√(v / (1 - β₂ᵗ)) + ε).
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = 1e-2


@dataclass(frozen=True, kw_only=True)
class Lion(_Optimizer):
    """Lion (Chen et al. 2023, arXiv:2302.06675, algorithm 2): steps of one size, by their sign.

    w ← w - η·(sign(β₁·m + (1 - β₁)·g) + λ·w);  m ← β₂·m + (1 - β₂)·g.
    """

    name: ClassVar[str] = "lion"
    beta1: float = 0.9
    beta2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_betas(self.beta1, self.beta2)

    def slots_of(self, shape: Shape) -> dict[str, Shape]:
        """One tensor."""
        return {"momentum": shape}


@dataclass(frozen=True, kw_only=True)
class RMSProp(_Optimizer):
    """RMSProp (Hinton 2012; centered: Graves 2013) as in ``torch.optim.RMSprop``.

    g ← g + λ·w;  v ← α·v + (1 - α)·g²;  u ← g / (√v + ε);  m ← μ·m + u;  w ← w - η·m.
    Centered: a ← α·a + (1 - α)·g, and √(v - a²) in place of √v.
    """

    name: ClassVar[str] = "rmsprop"
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.alpha < 1, f"alpha is {self.alpha}; it must be in [0, 1)")
        require(0 <= self.momentum < 1, f"momentum is {self.momentum}; it must be in [0, 1)")
        require(self.eps > 0, f"eps is {self.eps}; it must be above 0")

    def slots_of(self, shape: Shape) -> dict[str, Shape]:
        """One tensor, one more if centered, one more with momentum."""
        names = ["square", *["mean"] * self.centered, *["momentum"] * bool(self.momentum)]
        return dict.fromkeys(names, shape)


@dataclass(frozen=True, kw_only=True)
class Adafactor(_Optimizer):
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235) as in ``torch.optim.Adafactor``.

    c ← tᵈ;  r ← r + c·(mean g² of each row - r), k alike for the columns, v = r·kᵀ / mean r;
    u ← g / √max(v, ε₁²);  u ← u / max(1, RMS(u) / clip_threshold);
    w ← w - η·λ·w - ρ·max(ε₂, RMS(w))·u, ρ = min(η, 1/√t).

    Rows and columns are the last two axes of a weight as it is stored; a weight of one axis keeps
    v itself. Without ``relative_step`` ρ = η; without ``scale_parameter`` there is no RMS(w).
    """

    name: ClassVar[str] = "adafactor"
    shared: ClassVar[tuple[str, ...]] = ("step",)
    decay_rate: float = -0.8
    """d: the running mean of g² forgets more slowly as t grows."""
    eps1: float | None = None
    """The least √v; None is the smallest step of the element type."""
    eps2: float = 1e-3
    clip_threshold: float = 1.0
    relative_step: bool = True
    scale_parameter: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.decay_rate <= 0, f"decay_rate is {self.decay_rate}; it must be ≤ 0")
        require(self.clip_threshold > 0, f"clip_threshold is {self.clip_threshold}; it must be > 0")

    def slots_of(self, shape: Shape) -> dict[str, Shape]:
        """A number per row and one per column; v itself where there is one axis."""
        if len(shape) < 2:
            return {"square": shape}
        return {"rows": (*shape[:-1], 1), "columns": (*shape[:-2], 1, shape[-1])}


Optimizer = SGD | Adam | AdamW | Lion | RMSProp | Adafactor
OPTIMIZERS: dict[str, type[Optimizer]] = {
    o.name: o for o in (SGD, Adam, AdamW, Lion, RMSProp, Adafactor)
}


def make_optimizer(name: str, **options: Any) -> Optimizer:
    """Build an optimizer by name, or from ``name:option=value,…``.

    Raises:
        UnknownNameError: no optimizer has that name, or it has no such option.
    """
    name, written = split_reference(name)
    return build("optimizer", OPTIMIZERS, name, {**written, **options})


def describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return the optimizer as plain data for the manifest."""
    return {"name": optimizer.name, **asdict(optimizer)}


def _require_betas(*betas: float) -> None:
    require(all(0 <= b < 1 for b in betas), f"betas are {betas}; they must be in [0, 1)")

"""Losses: what a training step minimises. Descriptions only; ``AppendLoss`` builds the graph.

In the equations x is the model's output, y the label, and the mean goes over all that count.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from pock_tvm.named_options import build, require, split_reference

Labels = Literal["classes", "values", "none"]


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """What all of them have."""

    name: ClassVar[str]
    labels: ClassVar[Labels] = "values"
    """``classes``: int32 in the shape of the output less its last axis; ``values``: in the shape
    and type of the output; ``none``: the loss takes no labels."""
    counts: ClassVar[bool] = False
    """Whether ``evaluate`` counts the labels that are predicted right."""


@dataclass(frozen=True, kw_only=True)
class _OfClasses(_Loss):
    labels: ClassVar[Labels] = "classes"
    counts: ClassVar[bool] = True
    label_smoothing: float = 0.0
    ignore_index: int = -100
    """Samples with this label count for nothing."""

    def __post_init__(self) -> None:
        require(
            0.0 <= self.label_smoothing < 1.0,
            f"label smoothing is {self.label_smoothing}; it must be in [0, 1)",
        )


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(_OfClasses):
    """Mean cross entropy of integer labels, as ``torch.nn.functional.cross_entropy`` defines it.

    The model's output is (..., classes) logits; labels are int32 with the leading axes' shape.
    """

    name: ClassVar[str] = "cross_entropy"


@dataclass(frozen=True, kw_only=True)
class Distillation(_OfClasses):
    """Learning without forgetting (Li & Hoiem 2016, arXiv:1606.09282) from the original model.

    (1 - λ) · cross entropy + λ·T² · KL(softmax(z/T) ‖ softmax(x/T)), z being the logits of the
    same model with its original weights (Hinton et al. 2015), λ ``weight``, T ``temperature``.
    """

    name: ClassVar[str] = "distillation"
    weight: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 < self.weight <= 1.0, f"weight is {self.weight}; it must be in (0, 1]")
        require(self.temperature > 0, f"temperature is {self.temperature}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy(_Loss):
    """Mean of p·y·softplus(-x) + (1 - y)·softplus(x), as ``binary_cross_entropy_with_logits``.

    Each output is a yes or no of its own: labels are 1.0, 0.0, or between. p is ``pos_weight``.
    An output above 0 is a yes.
    """

    name: ClassVar[str] = "bce"
    counts: ClassVar[bool] = True
    pos_weight: float = 1.0

    def __post_init__(self) -> None:
        require(self.pos_weight > 0, f"pos_weight is {self.pos_weight}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class MeanSquaredError(_Loss):
    """Mean of (x - y)²."""

    name: ClassVar[str] = "mse"


@dataclass(frozen=True, kw_only=True)
class MeanAbsoluteError(_Loss):
    """Mean of |x - y|."""

    name: ClassVar[str] = "l1"


@dataclass(frozen=True, kw_only=True)
class Huber(_Loss):
    """Mean of d²/2 where d = |x - y| ≤ δ, else δ·(d - δ/2), as ``huber_loss``."""

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        require(self.delta > 0, f"delta is {self.delta}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class SmoothL1(_Loss):
    """Mean of d²/2β where d = |x - y| < β, else d - β/2, as ``smooth_l1_loss``: Huber's by β."""

    name: ClassVar[str] = "smooth_l1"
    beta: float = 1.0

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta is {self.beta}; it must be above 0 (0 is the loss l1)")


@dataclass(frozen=True, kw_only=True)
class Contrastive(_Loss):
    """CLIP's loss (Radford et al. 2021): sample i of one kind belongs to sample i of the other.

    (cross entropy of the rows of x + of its columns) / 2 against 0, 1, 2, …; x is the [batch,
    batch] matrix of similarities that the model returns. It takes no labels.
    """

    name: ClassVar[str] = "contrastive"
    labels: ClassVar[Labels] = "none"


Loss = (
    CrossEntropy
    | Distillation
    | BinaryCrossEntropy
    | MeanSquaredError
    | MeanAbsoluteError
    | Huber
    | SmoothL1
    | Contrastive
)
LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        CrossEntropy,
        BinaryCrossEntropy,
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
        SmoothL1,
        Contrastive,
        Distillation,
    )
}


def make_loss(name: str, **options: Any) -> Loss:
    """Build a loss by name, or from ``name:option=value,…``.

    Raises:
        UnknownNameError: no loss has that name, or it has no such option.
    """
    name, written = split_reference(name)
    return build("loss", LOSSES, name, {**written, **options})


def describe_loss(loss: Loss) -> dict[str, Any]:
    """Return the loss as plain data for the manifest."""
    return {"name": loss.name, **asdict(loss)}

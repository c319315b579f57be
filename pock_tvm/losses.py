"""Losses: what a training step minimises. Descriptions only; ``AppendLoss`` builds the graph."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pock_tvm.named_options import build, require, split_reference


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Mean cross entropy of integer labels, as ``torch.nn.functional.cross_entropy`` defines it.

    The model's output is (..., classes) logits; labels are int32 with the leading axes' shape.
    """

    name: ClassVar[str] = "cross_entropy"
    label_smoothing: float = 0.0
    ignore_index: int = -100
    """Samples with this label count for nothing."""

    def __post_init__(self) -> None:
        require(
            0.0 <= self.label_smoothing < 1.0,
            f"label smoothing is {self.label_smoothing}; it must be in [0, 1)",
        )


@dataclass(frozen=True, kw_only=True)
class MeanSquaredError:
    """Mean of the squared difference; labels have the shape and dtype of the model's output."""

    name: ClassVar[str] = "mse"


Loss = CrossEntropy | MeanSquaredError
LOSSES: dict[str, type[CrossEntropy] | type[MeanSquaredError]] = {
    loss.name: loss for loss in (CrossEntropy, MeanSquaredError)
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

"""What a check found, tensor by tensor."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TensorCheck:
    """One tensor of the model.

    Errors are relative; None where a check does not apply, and where the gradient is 0 but for
    rounding: there the arithmetic's own bounds decide.
    """

    name: str
    learns: str
    """``whole``, ``16 of 64 channels``, ``rows of a batch``, ``statistics``, or ``frozen``."""
    finite_differences: float | None = None
    autograd: float | None = None
    step: float | None = None
    """Of what one compiled step changed, against float64."""
    problems: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Return ``ok``, or what is wrong."""
        return "; ".join(self.problems) or "ok"


@dataclass(frozen=True, kw_only=True)
class Report:
    """All tensors of a model."""

    model: str
    update: str
    loss: float
    """Of the batch, in float64."""
    tensors: tuple[TensorCheck, ...]
    dropout: bool = False
    """Whether the step dropped out."""
    dropouts: int = 0
    """Places where the model does."""

    @property
    def failed(self) -> tuple[TensorCheck, ...]:
        """The tensors with a problem."""
        return tuple(tensor for tensor in self.tensors if tensor.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return {
            "model": self.model,
            "update": self.update,
            "loss": self.loss,
            "dropout": self.dropout,
            "dropouts": self.dropouts,
            "ok": not self.failed,
            "tensors": [{**asdict(t), "verdict": t.verdict} for t in self.tensors],
        }

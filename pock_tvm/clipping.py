"""Clipping: how large a gradient may be. Descriptions only; ``gradient_transforms`` builds it."""

from dataclasses import dataclass
from typing import ClassVar

from pock_tvm.named_options import require


@dataclass(frozen=True)
class _Clipping:
    name: ClassVar[str]
    limit: float

    def __post_init__(self) -> None:
        require(0 < self.limit < float("inf"), f"clip {self.name}:{self.limit}: limit must be > 0")


class ClipValue(_Clipping):
    """g ← min(max(g, -c), c), as ``torch.nn.utils.clip_grad_value_``."""

    name = "value"


class ClipTensorNorm(_Clipping):
    """g ← g · min(1, c / (‖g‖₂ + 10⁻⁶)) for each gradient by itself."""

    name = "tensor-norm"


class ClipGlobalNorm(_Clipping):
    """g ← g · min(1, c / (‖all gradients‖₂ + 10⁻⁶)), as ``torch.nn.utils.clip_grad_norm_``.

    No weight can be updated before all gradients are there, so all of them are kept until then.
    """

    name = "global-norm"


Clipping = ClipValue | ClipTensorNorm | ClipGlobalNorm
CLIPPINGS: dict[str, type[Clipping]] = {
    c.name: c for c in (ClipValue, ClipTensorNorm, ClipGlobalNorm)
}


def make_clipping(text: str) -> Clipping:
    """Build a clipping from ``value:1.0``, ``tensor-norm:1.0`` or ``global-norm:1.0``.

    Raises:
        UnknownNameError: there is no such kind, or the limit is no number above 0.
    """
    name, _, limit = text.partition(":")
    require(name in CLIPPINGS, f"unknown clipping {name!r}; known are {', '.join(CLIPPINGS)}")
    try:
        value = float(limit)
    except ValueError:
        value = float("nan")
    require(value == value, f"clipping {text!r} needs a limit: {name}:1.0")
    return CLIPPINGS[name](value)


def describe_clipping(clipping: Clipping) -> str:
    """Return the clipping as ``make_clipping`` reads it."""
    return f"{clipping.name}:{clipping.limit!r}"

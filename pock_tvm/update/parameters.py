"""What a scheme knows about a model: its parameters, and what reads each of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Reader = Literal["linear", "conv", "depthwise", "embedding", "other"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A tensor of the model that could learn."""

    name: str
    shape: tuple[int, ...]
    """In the model's own layout."""
    dtype: str = "float32"
    reader: Reader = "other"
    """What the graph does with it: a matrix product, a convolution, a look-up of rows."""
    input_axis: int | None = None
    """Axis of the input channels; of a depthwise convolution, of its channels."""
    output_axis: int | None = None
    """Axis of the output channels."""
    groups: int = 1
    pointwise: bool = False
    """A convolution whose window is one pixel."""
    is_output_layer: bool = False
    """A table of embeddings that a matrix product reads, too: the output layer is tied to it."""
    aliases: tuple[str, ...] = ()
    """Other names of the same tensor, where the model ties several."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names that a pattern may call it by."""
        return (self.name, *self.aliases)

    @property
    def learnable(self) -> bool:
        """Whether it holds floating-point numbers."""
        return "float" in self.dtype

    @property
    def is_matrix(self) -> bool:
        """Whether it is the weight of a linear layer or a convolution."""
        return self.reader in ("linear", "conv", "depthwise")


def name_parts(name: str) -> tuple[str, str]:
    """Return module and last word of a parameter's name."""
    module, _, leaf = name.rpartition(".")
    return module, leaf


def learnable_names(parameters: Iterable[Parameter]) -> list[str]:
    """Return the names of those that can learn, in order."""
    return [p.name for p in parameters if p.learnable]


def head_names(parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """Return the names of the head: what the last module holds, or the tied output layer.

    A tied layer goes by its own name (``lm_head.weight``) where the model gives it one.
    """
    tied = next((p for p in parameters if p.is_output_layer), None)
    if tied is not None and not tied.aliases:
        return (tied.name,)
    last = tied.names[-1] if tied is not None else learnable_names(parameters)[-1]
    module = name_parts(last)[0]
    return tuple(
        n for p in parameters if p.learnable for n in p.names if name_parts(n)[0] == module
    )

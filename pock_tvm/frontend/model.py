"""What every importer returns: a Relax function and the model's tensors under their own names."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from tvm import IRModule


@dataclass(frozen=True)
class InputSpec:
    """One input of the model; the leading axis is the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    limit: int | None = None
    """For integer inputs that index a table: exclusive upper bound of a valid value."""


@dataclass(frozen=True)
class ImportedModel:
    """A model in Relax.

    ``mod["main"]`` takes the tensors of ``parameters`` in order, then the inputs in order, and
    returns the model's output. The name of each parameter variable is the tensor's own name.
    """

    name: str
    mod: IRModule
    parameters: dict[str, np.ndarray]
    inputs: tuple[InputSpec, ...]
    buffers: frozenset[str]
    """Names in ``parameters`` that are not trained by gradients: running statistics."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other name of a tied tensor -> its name in ``parameters``."""
    unused: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the model holds besides, such as counters of batches: kept for an export."""

    @property
    def batch(self) -> int:
        """Samples in one batch."""
        return self.inputs[0].shape[0]

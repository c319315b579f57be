"""Choose which input channels of a weight learn: before compilation, from the trained weights."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pock_tvm.update.parameters import Parameter
from pock_tvm.update.scheme import Pick


@dataclass(frozen=True, kw_only=True)
class ChannelSlice:
    """The positions along one axis of a weight that learn."""

    axis: int
    """Of the input channels, in the model's own layout."""
    channels: tuple[int, ...]
    """In increasing order."""
    of: int
    """Extent of the axis."""

    def describe(self) -> Mapping[str, Any]:
        """Return the slice as plain data."""
        return {"axis": self.axis, "channels": list(self.channels), "of": self.of}


def choose_channels(
    parameter: Parameter, weight: np.ndarray, share: Fraction, pick: Pick, seed: int
) -> ChannelSlice:
    """Choose a share of the channels, at least one.

    Args:
        parameter: has an ``input_axis``.
        weight: its trained values, in the model's own layout.
        share: of the channels.
        pick: by the norm of a channel's slice of the weight, largest or smallest first, the lower
            position on a tie; or at random.
        seed: of ``random``; each weight draws on its own, whatever else learns.
    """
    axis = parameter.input_axis
    assert axis is not None, parameter.name
    of = weight.shape[axis]
    count = max(1, round(share * of))
    if pick == "random":
        generator = np.random.default_rng([seed, zlib.crc32(parameter.name.encode())])
        order = generator.permutation(of)
    else:
        others = tuple(a for a in range(weight.ndim) if a != axis)
        norms = np.square(weight.astype("float64")).sum(others)
        order = np.argsort(norms if pick == "magnitude-" else -norms, kind="stable")
    return ChannelSlice(axis=axis, channels=tuple(sorted(map(int, order[:count]))), of=of)

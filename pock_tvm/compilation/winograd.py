"""Which frozen 3x3 convolutions are worth Winograd's tiles, and of which size."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import tvm

from pock_tvm.relay_passes.operators.minimal_filtering import filtering, transform_weight
from pock_tvm.relay_passes.transform_frozen_conv2d import Use, uses_of
from pock_tvm.schedules.cpu.winograd_cost import (
    GROUPS,
    Convolution,
    direct_cycles,
    winograd_cycles,
)
from pock_tvm.targets import TargetSpec

Winograd = Literal["auto", "off"]
"""Whether frozen 3x3 convolutions may be computed by tiles."""

_MEASURED = ("znver5",)
_WORTH_IT, _WORTH_IT_UNMEASURED = 0.95, 0.7
"""Largest share of the direct convolution's cycles: of other cores no time was ever taken."""


def transformed_weights(
    mods: Sequence[tvm.IRModule], weights: Mapping[str, np.ndarray], spec: TargetSpec
) -> dict[str, np.ndarray]:
    """Return the transforms of the weights that tiles are faster with, by name.

    Args:
        mods: the entry points; the first that reads a weight decides, the training step before
            what is run now and then.
        weights: what no entry point changes.
        spec: machine; one that has no vectors of 4 to 16 floats, or computes in another precision
            than float32, has no use for them.
    """
    if spec.device is not None or spec.precision != "fp32" or spec.vector_lanes() not in (4, 8, 16):
        return {}
    of_all = uses_of(mods, weights)
    deciding: dict[str, list[Use]] = {}
    for mod in mods:
        for name, uses in uses_of([mod], of_all).items():
            deciding.setdefault(name, uses)
    transformed: dict[str, np.ndarray] = {}
    for name, uses in deciding.items():
        outputs = tile_outputs(uses, spec)
        if outputs is not None:
            columns = next(g for g in GROUPS if weights[name].shape[3] % g == 0)
            transformed[name] = transform_weight(weights[name], outputs, columns)
    return transformed


def tile_outputs(uses: Sequence[Use], spec: TargetSpec) -> int | None:
    """Return the side of a tile's result, 2 or 4, for all uses of a weight; None for no tiles."""
    found = [Convolution(use.shape, use.depth, use.gradient) for use in uses]
    share = _WORTH_IT if spec.core in _MEASURED else _WORTH_IT_UNMEASURED
    cycles: dict[int | None, float] = {m: sum(_by_tiles(m, c, spec) for c in found) for m in (2, 4)}
    cycles[None] = share * sum(direct_cycles(c, spec) for c in found)
    return min(cycles, key=lambda m: cycles[m])


def _by_tiles(outputs: int, c: Convolution, spec: TargetSpec) -> float:
    matrices = filtering(outputs, gradient=c.gradient)
    return winograd_cycles(c, matrices.data, matrices.inverse, spec)

"""Which elements one thread folds, and how many threads share an element's fold.

A matrix product reads an element of each operand for one multiplication; a thread that keeps a tile
of 4 × 4 results reads eight for sixteen. Where there are too few tiles to fill a device, as in the
gradient of a bias, several threads of a work-group each fold a slice, and then each other's.
"""

from dataclasses import dataclass
from math import prod

from pock_tvm.schedules.cpu.stages import extent, loads, uses
from pock_tvm.schedules.cpu.steps import Step
from pock_tvm.targets.base import DeviceSpec

_TILE_AXES = 2
_TILES = (4, 2)
"""Extents of a tile along an axis, the first that divides it: no tile is ragged."""
_LEAST_SLICE = 8
"""Terms of a slice; below this, adding the slices up costs as much as it saves."""


@dataclass(frozen=True)
class Tiling:
    """The tile of a thread, by spatial axis; the slices of a fold, along one reduced axis."""

    tile: tuple[int, ...]
    slices: int
    sliced_axis: int


def tiling(step: Step, device: DeviceSpec) -> Tiling:
    """Return how the threads of a launch share a fold."""
    tile = _tile(step, device)
    tiles = prod(step.shape) // prod(tile)
    extents = [extent(v) for v in step.stage.reduced]
    longest = max(range(len(extents)), key=lambda i: (extents[i], i))
    slices = 1
    while (
        slices < device.group_threads
        and tiles * slices < device.busy_threads
        and extents[longest] >= 2 * slices * _LEAST_SLICE
    ):
        slices *= 2
    return Tiling(tile, slices, longest)


def _tile(step: Step, device: DeviceSpec) -> tuple[int, ...]:
    """Return the extents of a thread's tile: along axes that some operand does not have."""
    tile = [1] * len(step.shape)
    read = loads(step.value)
    tiled = 0
    for axis in reversed(range(len(step.shape))):
        variable = step.stage.spatial[axis].var
        shared = [load for load in read if not uses(list(load.indices), [variable])]
        count = next((n for n in _TILES if step.shape[axis] % n == 0), 1)
        tiles = prod(step.shape) // prod(tile) // count
        terms = prod(extent(v) for v in step.stage.reduced)
        enough = tiles * max(1, terms // _LEAST_SLICE) >= device.busy_threads
        if shared and count > 1 and tiled < _TILE_AXES and enough:
            tile[axis] = count
            tiled += 1
    return tuple(tile)

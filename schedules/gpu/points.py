"""Expressions and folds, and what follows a fold at the same element, in one launch.

for point in threads:                               # a tile of elements where they are folded
    folded[tile] = …                                # see folds.py
    for each element of the tile:
        a = value₀(point, folded); b = value₁(point, folded)    # all are read before any is written
        out₀[point] = a; out₁[point] = b
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.kernels import index_dtype, read_stages
from pock_tvm.schedules.cpu.nest import rewrite, sequence, unravel
from pock_tvm.schedules.cpu.stages import is_parameter, loads, product
from pock_tvm.schedules.cpu.steps import Step, read_steps
from pock_tvm.schedules.gpu.folds import FoldedTile
from pock_tvm.schedules.gpu.threads import launch, sliced_nest, thread_nest
from pock_tvm.schedules.gpu.tiles import tiling
from pock_tvm.targets import TargetSpec


@dataclass(frozen=True)
class Group:
    """Steps that one launch computes: at most one fold, then expressions at the same points."""

    fold: Step | None
    values: tuple[Step, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return all of them, the fold first."""
        return (*((self.fold,) if self.fold else ()), *self.values)

    @property
    def shape(self) -> list[int]:
        """Return the extents of the points."""
        return self.steps[0].shape


def points(func: tirx.PrimFunc, spec: TargetSpec) -> list[tirx.PrimFunc] | None:
    """Return the launches of a kernel of plain folds and expressions; None for others."""
    steps = read_steps(func, read_stages(func))
    if steps is None:
        return None
    groups = group_steps(steps)
    return [_launch(func, f"part{i}", group, groups, spec) for i, group in enumerate(groups)]


def group_steps(steps: Sequence[Step]) -> list[Group]:
    """Put each step into the group before it where one thread per point can do both."""
    groups: list[Group] = []
    for step in steps:
        last = groups[-1] if groups else None
        if last is not None and _joins(step, last):
            groups[-1] = Group(last.fold, (*last.values, step))
        elif step.fold:
            groups.append(Group(step, ()))
        else:
            groups.append(Group(None, (step,)))
    return groups


def _joins(step: Step, group: Group) -> bool:
    """Tell whether a step needs of the group nothing but the fold's result at its own point."""
    return (
        step.fold is None
        and step.shape == group.shape
        and not step.reads(group.values)
        and (group.fold is None or _reads_own_point(step, group.fold))
    )


def _reads_own_point(step: Step, fold: Step) -> bool:
    return all(
        all(i.same_as(v.var) for i, v in zip(load.indices, step.stage.spatial, strict=True))
        for load in loads(step.value)
        if load.source.same_as(fold.buffer)
    )


def _launch(
    func: tirx.PrimFunc, name: str, group: Group, groups: Sequence[Group], spec: TargetSpec
) -> tirx.PrimFunc:
    assert spec.device is not None
    threads, index = spec.device.group_threads, index_dtype(group.steps[0].stage)
    if group.fold is None:

        def element(point: Any) -> Any:
            return sequence(*_stores(group, unravel(point, group.shape), None, wanted=False))

        return launch(func, name, thread_nest(product(group.shape), threads, index, element))

    fold, how = group.fold, tiling(group.fold, spec.device)
    counts = [extent // n for extent, n in zip(group.shape, how.tile, strict=True)]
    tiles = product(counts)
    together = min(threads // how.slices, tiles)
    wanted = _is_wanted(func, fold, group, groups)

    def origin(tile: Any) -> list[Any]:
        return [i * n for i, n in zip(unravel(tile, counts), how.tile, strict=True)]

    def stores(tile: FoldedTile) -> list[Any]:
        return [
            store
            for number, place in enumerate(tile.places)
            for store in _stores(group, place, tile.element(number), wanted=wanted)
        ]

    def whole(point: Any) -> Any:
        tile = FoldedTile(fold, how, origin(point))
        return sequence(*tile.fold(None), *stores(tile))

    def shared(point: Any, slice_of: Any, thread: Any, valid: Any) -> Any:
        tile = FoldedTile(fold, how, origin(point))
        first = slice_of < tirx.const(1, index)
        first = first if valid is None else tirx.all(first, valid)
        return sequence(
            *tile.fold(slice_of),
            *tile.add_up(thread, slice_of, together * how.slices),
            tirx.IfThenElse(first, sequence(*stores(tile)), None),
        )

    if how.slices == 1:
        nest = thread_nest(tiles, threads, index, whole)
    else:
        nest = sliced_nest(tiles, together, how.slices, index, shared)
    return launch(func, name, nest)


def _is_wanted(func: tirx.PrimFunc, fold: Step, own: Group, groups: Sequence[Group]) -> bool:
    """Tell whether somebody beside its own group reads the fold's result."""
    others = [step for group in groups if group is not own for step in group.steps]
    return is_parameter(func, fold.buffer) or any(step.reads([fold]) for step in others)


def _stores(group: Group, place: Sequence[Any], folded: Any, *, wanted: bool) -> list[Any]:
    """Return the statements that write a group's results at a place.

    Args:
        group: its values, and the fold that they may read.
        place: indices of the element.
        folded: the fold's element, if there is one.
        wanted: the fold's element is a result too.
    """
    before: list[Any] = []
    stores = [tirx.BufferStore(group.fold.buffer, folded, place)] if group.fold and wanted else []
    for step in group.values:
        at = {v.var: i for v, i in zip(step.stage.spatial, place, strict=True)}
        inside = {group.fold.buffer: lambda _load: folded} if group.fold else None
        value = rewrite(step.value, at, inside)
        if len(group.values) > 1:  # an output may lie where another one reads
            variable = tirx.decl_buffer([1], step.dtype, step.stage.name, scope="local")
            before += [tirx.AllocBuffer(variable), tirx.BufferStore(variable, value, [0])]
            value = tirx.BufferLoad(variable, [0])
        stores.append(tirx.BufferStore(step.buffer, value, place))
    return [*before, *stores]

"""One thread per output element: expressions, folds, and what follows them at the same element.

for point in threads:
    acc = identity                                  # where the element is folded from others
    for r in reduced axes: acc = acc ∘ element(point, r)
    a = value₀(point, acc); b = value₁(point, acc)  # all are read before any is written
    out₀[point] = a; out₁[point] = b
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.kernels import index_dtype, read_stages
from pock_tvm.schedules.cpu.nest import loop, rewrite, unravel
from pock_tvm.schedules.cpu.stages import extent, is_parameter, loads, product
from pock_tvm.schedules.cpu.steps import Step, read_steps
from pock_tvm.schedules.gpu.threads import allocated, get, launch, local, put, thread_nest
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
    def at(point: Any) -> Any:
        indices = unravel(point, group.shape)
        variables, statements = [], []
        result: Any = None
        if group.fold:
            result, folded = fold_at(group.fold, indices)
            variables.append(result)
            statements += folded
        stores = []
        for step in group.values:
            value = value_at(step, indices, group.fold, result)
            if len(group.values) > 1:  # an output may lie where another one reads
                variables.append(local(step.stage.name, step.dtype))
                statements.append(put(variables[-1], value))
                value = get(variables[-1])
            stores.append(tirx.BufferStore(step.buffer, value, indices))
        if group.fold and _is_wanted(func, group.fold, group, groups):
            stores.insert(0, tirx.BufferStore(group.fold.buffer, get(result), indices))
        return allocated(variables, [*statements, *stores])

    assert spec.device is not None
    index = index_dtype(group.steps[0].stage)
    nest = thread_nest(product(group.shape), spec.device.group_threads, index, at)
    return launch(func, name, nest)


def _is_wanted(func: tirx.PrimFunc, fold: Step, own: Group, groups: Sequence[Group]) -> bool:
    """Tell whether somebody beside its own group reads the fold's result."""
    others = [step for group in groups if group is not own for step in group.steps]
    return is_parameter(func, fold.buffer) or any(step.reads([fold]) for step in others)


def fold_at(step: Step, indices: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return the variable with the folded element, and the statements that compute it."""
    fold = step.fold
    assert fold is not None
    result = local("folded", step.dtype)
    at = {v.var: i for v, i in zip(step.stage.spatial, indices, strict=True)}

    def over(axes: Sequence[Any]) -> Any:
        if not axes:
            return put(result, fold(get(result), rewrite(step.value, at)))

        def inside(i: Any) -> Any:
            at[axes[0].var] = i
            return over(axes[1:])

        return loop(axes[0].var.name, extent(axes[0]), index_dtype(step.stage), inside)

    return result, [put(result, step.identity), over(step.stage.reduced)]


def value_at(step: Step, indices: Sequence[Any], fold: Step | None, result: Any) -> Any:
    """Return the expression of a step at a point; ``result`` stands for the fold's element."""
    at = {v.var: i for v, i in zip(step.stage.spatial, indices, strict=True)}
    if fold is None:
        return rewrite(step.value, at)
    return rewrite(step.value, at, {fold.buffer: lambda _load: get(result)})

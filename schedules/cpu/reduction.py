"""Kernels of reductions and what is fused with them, and kernels of several outputs.

The steps of the kernel are gathered in groups, each of which becomes one nest:

    rows      folds over trailing axes and everything with the same rows   (`row_sweep`)
    columns   a fold that keeps the last axis, and its epilogues           (`column_sum`)
    whole     a fold to one element                                        (`whole_sum`)
    points    expressions over one shape, several outputs in one pass      (here)

Tensors that live within a group stay in registers or cache; those between groups are stored.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.column_sum import ColumnSum, is_column_fold, is_epilogue
from pock_tvm.schedules.cpu.kernels import index_dtype, read_stages, with_body
from pock_tvm.schedules.cpu.nest import PARALLEL, SERIAL, loop, rewrite, sequence, unravel
from pock_tvm.schedules.cpu.row_sweep import RowSweep, row_rank, shares_rows
from pock_tvm.schedules.cpu.stages import is_parameter, vectorizable
from pock_tvm.schedules.cpu.steps import Step, read_steps
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS
from pock_tvm.schedules.cpu.vectors import over_vectors, simultaneously
from pock_tvm.schedules.cpu.whole_sum import WholeSum, is_whole_fold
from pock_tvm.targets import TargetSpec

_ROW_BYTES = 256 * 1024
"""Most that a sweep may keep of a row, per thread; beyond, its tensors are stored whole."""


@dataclass
class Group:
    """Steps that become one nest."""

    kind: str
    steps: list[Step] = field(default_factory=list)
    rank: int = 0

    def takes(self, step: Step) -> bool:
        """Tell whether the step can join."""
        if self.kind == "rows":
            return shares_rows([*self.steps, step], self.rank)
        if self.kind == "columns":
            return is_epilogue(step, self.steps[0]) and not step.reads(self.steps[1:])
        if self.kind == "points":
            same = step.fold is None and step.shape == self.steps[0].shape
            return same and not step.reads(self.steps)
        return False


def reduction(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule a kernel of injective expressions and plain folds.

    A weight gradient with several outputs is refused: its update writes over what others read.
    """
    nests = read_stages(func)
    makes_gradient = any("weight_grad" in (s.kernel or "") for s in nests)
    if makes_gradient and sum(is_parameter(func, s.output) for s in nests) > 1:
        return None
    steps = read_steps(func, nests)
    groups = _gather(steps) if steps else None
    if not steps or not groups or not any(s.stage.block.iter_vars for s in steps):
        return None
    index = next(index_dtype(s.stage) for s in steps if s.stage.block.iter_vars)
    return with_body(func, _build(func, groups, index, spec))


def _gather(steps: list[Step]) -> list[Group] | None:
    """Put every step into the last group, or open a group; None where a fold fits no kind."""
    groups: list[Group] = []
    for step in steps:
        if groups and groups[-1].takes(step):
            groups[-1].steps.append(step)
            continue
        opened = _open(step, groups)
        if opened is None:
            return None
        if groups and not step.reads(groups[-1].steps):
            groups.insert(len(groups) - 1, opened)  # what follows may still join the last group
        elif opened not in groups:
            groups.append(opened)
    return groups


def _open(step: Step, groups: list[Group]) -> Group | None:
    if step.fold is None:
        return Group("points", [step])
    if is_whole_fold(step):
        return Group("whole", [step])
    rank = row_rank(step)
    if rank is not None and prod(step.shape[rank:]) == 1 and not is_column_fold(step):
        if groups and groups[-1].kind == "points":
            before = groups[-1]
            if shares_rows([*before.steps, step], rank):
                before.kind, before.rank = "rows", rank
                before.steps.append(step)
                return before
        return Group("rows", [step], rank)
    if is_column_fold(step):
        return Group("columns", [step])
    return None


def _build(func: tirx.PrimFunc, groups: list[Group], index: str, spec: TargetSpec) -> Any:
    nests, shared = [], []
    for k, group in enumerate(groups):
        later = [s for g in groups[k + 1 :] for s in g.steps]
        kept = [
            s.buffer
            for s in group.steps
            if is_parameter(func, s.buffer) or any(user.reads([s]) for user in later)
        ]
        if group.kind == "rows":
            inner = [
                prod(s.shape[group.rank :])
                for s in group.steps
                if not any(s.buffer.same_as(b) for b in kept)
            ]
            row = sum(inner) * 4
            if row > _ROW_BYTES:
                kept = [s.buffer for s in group.steps]
            nests.append(RowSweep(group.steps, group.rank, kept, index, spec).build())
        elif group.kind == "columns":
            nests.append(ColumnSum(group.steps[0], group.steps[1:], kept, index, spec).build())
        elif group.kind == "whole":
            kept = [group.steps[0].buffer]
            nests.append(WholeSum(group.steps[0], index, spec).build())
        else:
            kept = [s.buffer for s in group.steps]
            nests.append(_points(group.steps, index, spec))
        shared += [tirx.AllocBuffer(b) for b in kept if not is_parameter(func, b)]
    return sequence(*shared, *nests)


def _points(steps: list[Step], index: str, spec: TargetSpec) -> Any:
    """One pass over a shape: parallel over the leading axes or over chunks of the only one."""
    shape = steps[0].shape
    if not shape:
        return sequence(*_stores(steps, []))
    lanes = min(
        spec.vector_lanes(s.dtype) if vectorizable(s.value, s.stage.spatial[-1]) else 1
        for s in steps
    )
    *lead, width = shape
    rows = prod(lead)
    kind = PARALLEL if rows * width * len(steps) >= PARALLEL_POINTS else SERIAL

    def line(at: list[Any], begin: Any, length: int) -> Any:
        def stores(indices: list[Any]) -> list[Any]:
            return _stores(steps, [*indices[:-1], begin + indices[-1]])

        return over_vectors(
            length, lanes, index, lambda c, n: simultaneously(c, n, index, at, stores)
        )

    zero = tirx.const(0, index)
    if rows > 1 or kind == SERIAL:
        return loop("t", rows, index, lambda t: line(unravel(t, lead), zero, width), kind)
    chunk = 4096
    full, rest = divmod(width, chunk)
    at = unravel(zero, lead)
    return sequence(
        loop("t", full, index, lambda t: line(at, t * chunk, chunk), kind) if full else None,
        line(at, tirx.const(full * chunk, index), rest) if rest else None,
    )


def _stores(steps: list[Step], indices: list[Any]) -> list[Any]:
    stores = []
    for step in steps:
        named = {v.var: i for v, i in zip(step.stage.spatial, indices, strict=True)}
        stores.append(tirx.BufferStore(step.buffer, rewrite(step.value, named), indices))
    return stores

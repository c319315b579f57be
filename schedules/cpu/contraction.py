"""What a GEMM-shaped kernel computes, read off its blocks.

A contraction is a block ``C[…] += left · right``. Each of its axes belongs to one class:

    batch    in C and in both operands      (heads of an attention, taps of a gradient)
    rows     in C and the left operand      (pixels; input channels of a weight gradient)
    columns  in C and the right operand     (output channels), the last axis of C among them
    reduced  not in C

Blocks before it, paddings among them, are inlined into the operands, unless the kernel returns what
they write too. Blocks after it are epilogues, one expression per element of C; or they sum such an
expression over everything but the columns (the gradient of a scale, beside a weight's).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, sym, tirx

from pock_tvm.schedules.cpu.block_kinds import (
    REDUCE,
    SPATIAL,
    factors,
    is_elementwise,
    is_sum,
    is_sum_of_products,
)
from pock_tvm.schedules.cpu.elementwise import schedule_injective
from pock_tvm.schedules.cpu.nest import find, rewrite, unravel
from pock_tvm.schedules.cpu.stages import stages
from pock_tvm.targets import TargetSpec


@dataclass(frozen=True)
class Axis:
    """One block axis and its length."""

    var: Any
    extent: int


@dataclass(frozen=True)
class Axes:
    """Axes run through as one, the last fastest."""

    members: tuple[Axis, ...]

    @property
    def extent(self) -> int:
        """Return the number of points."""
        return prod(a.extent for a in self.members)

    def at(self, index: Any) -> dict[Any, Any]:
        """Return the value of every axis at a flat index."""
        parts = unravel(index, [a.extent for a in self.members])
        return {a.var: part for a, part in zip(self.members, parts, strict=True)}

    def index(self, values: dict[Any, Any]) -> Any:
        """Return the flat index of a point."""
        place = None
        for axis in self.members:
            value = values[axis.var]
            place = value if place is None else place * axis.extent + value
        return place


@dataclass(frozen=True)
class Store:
    """An output tensor of the kernel: ``buffer[indices] = value``, over the axes of C."""

    buffer: Any
    indices: tuple[Any, ...]
    value: Any

    def reads(self, c: "Contraction") -> list[Any]:
        """Return the loads of tensors that have an element for each of the sums."""
        axes = [*c.rows.members, *c.columns.members]

        def is_full(load: Any) -> bool:
            used = find(load.indices, ir.Var)
            return all(any(a.var.same_as(v) for v in used) for a in axes)

        loads = find(self.value, ir.TensorLoad)
        return [n for n in loads if not n.source.same_as(c.result) and is_full(n)]


@dataclass(frozen=True)
class Contraction:
    """A kernel ``stores(Σ left · right)``, its axes by class; see the module."""

    batch: Axes
    outer_rows: Axes
    rows: Axes
    columns: Axes
    reduced: tuple[Axes, ...]
    left: Any
    right: Any
    result: Any
    stores: tuple[Store, ...]
    prologues: tuple[Any, ...]
    guard: Any
    """Condition on batch and reduced axes outside of which the right operand is zero, or None."""
    folds: tuple[Store, ...] = ()
    """Outputs with one element per column, which sum their values over all rows."""

    @property
    def dtype(self) -> str:
        """Return the element type of the sum."""
        return str(self.result.dtype)

    @property
    def index_dtype(self) -> str:
        """Return the integer type of the loops."""
        return str(self.columns.members[0].var.ty.dtype)

    @property
    def right_is_plain(self) -> bool:
        """Tell whether vectors of columns of the right operand can be loaded as they stand."""
        if not isinstance(self.right, ir.TensorLoad):
            return False
        steps = strides(self.right, self.columns.members)
        return steps is not None and steps[0][-1] == 1

    @property
    def right_is_transposed(self) -> bool:
        """Tell whether the right operand is contiguous along the sum, not along its columns."""
        if not isinstance(self.right, ir.TensorLoad) or not self.reduced:
            return False
        walk = strides(self.right, [self.reduced[-1].members[-1], *self.columns.members])
        return walk is not None and walk[0][0] == 1 and walk[0][-1] != 1

    @property
    def right_is_stored_panels(self) -> bool:
        """Tell whether the right operand lies in memory as panels: all products of some columns.

        A batch axis counts the panels, which follow upon each other.
        """
        if not self.right_is_plain or not self.reduced or not self.batch.members:
            return False
        products = [a for g in self.reduced for a in g.members]
        panel, width = self.batch.members[-1], self.columns.extent
        walk = strides(self.right, [panel, *products])
        if walk is None:
            return False
        (steps,) = walk
        expected = [width]
        for axis in reversed(products):
            expected.append(expected[-1] * axis.extent)
        return steps == list(reversed(expected))

    def joined(self, groups: Sequence[Axes]) -> tuple[Axes, ...]:
        """Join neighbouring groups of reduced axes through which the left operand walks as one."""
        found: list[Axes] = []
        for group in groups:
            first = group.members[0]
            walk = strides(self.left, [found[-1].members[-1], first]) if found else None
            if walk is not None and all(o == i * first.extent for o, i in walk):
                found[-1] = Axes((*found[-1].members, *group.members))
            else:
                found.append(group)
        return tuple(found)


def read_contraction(sch: s_tir.Schedule, spec: TargetSpec) -> Contraction | None:
    """Inline what can be inlined and describe the kernel; None if it is no contraction."""
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    found = [i for i, rv in enumerate(blocks) if is_sum_of_products(sch.get(rv))]
    if len(found) != 1:
        return None
    before, kernel, after = blocks[: found[0]], blocks[found[0]], blocks[found[0] + 1 :]
    if not all(is_elementwise(sch.get(rv)) for rv in before):
        return None
    if not all(is_elementwise(sch.get(rv)) or is_sum(sch.get(rv)) for rv in after):
        return None
    params = list(sch.mod["main"].params)
    for rv in (*before, *after):
        block = sch.get(rv)
        if block.body.buffer not in params:
            sch.compute_inline(rv)
    left_over = sch.get_child_blocks(sch.get_sblock("root"))
    names = [sch.get(rv).name_hint for rv in left_over]
    position = names.index(sch.get(kernel).name_hint)
    for stage in stages(sch)[:position]:
        schedule_injective(sch, stage, spec)
    return _describe(sch, left_over[:position], kernel, left_over[position + 1 :])


def _describe(
    sch: s_tir.Schedule, before: Sequence[Any], kernel: Any, after: Sequence[Any]
) -> Contraction | None:
    block = sch.get(kernel)
    result = block.body.buffer
    operands = factors(block.body.value, result)
    assert operands is not None, "the caller has matched the block"
    left, right = operands
    axes = [Axis(v.var, int(v.dom.extent)) for v in block.iter_vars]
    unit = {a.var: tirx.const(0, a.var.ty.dtype) for a in axes if a.extent == 1}
    spatial = [a for a, v in zip(axes, block.iter_vars, strict=True) if v.iter_type == SPATIAL]
    reduced = [a for a, v in zip(axes, block.iter_vars, strict=True) if v.iter_type == REDUCE]
    spatial = [a for a in spatial if a.extent > 1]
    if not spatial:
        return None
    left, right = rewrite(left, unit), rewrite(right, unit)
    spatial, values = _split(spatial, (left, right))
    reduced, parts = _split(reduced, (left, right))
    values |= parts
    if values:
        unit |= values
        left, right = (_simplify(rewrite(x, unit), [*spatial, *reduced]) for x in (left, right))
    right, guard = _guard(right)
    indices = tuple(rewrite(i, unit) for i in block.body.indices)
    in_left, in_right = (_mentioned(x, spatial) for x in (left, right))
    last = spatial[-1]
    if last in in_left:
        left, right, in_left, in_right = right, left, in_right, in_left
    if last in in_left or last not in in_right:
        return None
    rows = [a for a in spatial if a in in_left and a not in in_right]
    outer, inner = _fused_tail(rows, [left])
    summed = [rv for rv in after if sch.get(rv).init is not None]
    others = [rv for rv in after if rv not in summed]
    stores = _stores(sch, others, result, block.body.indices, unit)
    folds = _stores(sch, summed, result, block.body.indices, unit)
    if stores is None or folds is None:
        return None
    if guard is not None and _mentioned(guard, [*rows, last]):
        return None
    if folds and (len(rows) + 1 < len(spatial) or not all(_is_column(s, last) for s in folds)):
        return None
    if _is_param(sch, result):
        stores = (Store(result, indices, block.body.value.a), *stores)
    return Contraction(
        batch=Axes(tuple(a for a in spatial if a not in rows and a != last)),
        outer_rows=Axes(tuple(outer)),
        rows=Axes(tuple(inner)),
        columns=Axes((last,)),
        reduced=tuple(_fused([a for a in reduced if a.extent > 1], [left, right])),
        left=left,
        right=right,
        result=result,
        stores=stores,
        prologues=tuple(sch.get(sch.get_loops(rv)[0]) for rv in before),
        guard=guard,
        folds=folds,
    )


def _is_column(fold: Store, last: Axis) -> bool:
    """Tell whether a sum is over all but the last axis."""
    variables = find(fold.indices, ir.Var)
    return len(variables) == 1 and variables[0].same_as(last.var)


def _is_param(sch: s_tir.Schedule, buffer: Any) -> bool:
    return any(buffer.same_as(p) for p in sch.mod["main"].params)


def _split(axes: Sequence[Axis], operands: Sequence[Any]) -> tuple[list[Axis], dict[Any, Any]]:
    """Split every axis that an operand reads as ``v // n`` or ``v % n`` into quotient and rest.

    A grouped convolution reads its group so, the data gradient of a strided one the phase of a
    pixel. Returns the new axes, and the old ones in terms of them.
    """
    sizes: dict[Any, set[int]] = {a.var: set() for a in axes}
    for kind in (tirx.FloorDiv, tirx.FloorMod):
        for node in (n for x in operands for n in find(x, kind)):
            if node.a in sizes and isinstance(node.b, tirx.IntImm):
                sizes[node.a].add(int(node.b))
    new: list[Axis] = []
    values: dict[Any, Any] = {}
    for axis in axes:
        found = sizes[axis.var]
        if len(found) != 1 or axis.extent % (size := next(iter(found))) or size == 1:
            new.append(axis)
            continue
        name, dtype = axis.var.name, axis.var.ty.dtype
        quotient = Axis(tirx.Var(f"{name}_o", dtype), axis.extent // size)
        rest = Axis(tirx.Var(f"{name}_i", dtype), size)
        values[axis.var] = quotient.var * size + rest.var
        new += [a for a in (quotient, rest) if a.extent > 1]
        if quotient.extent == 1:
            values[axis.var] = rest.var
    return new, values


def _simplify(expr: Any, axes: Sequence[Axis]) -> Any:
    analyzer = sym.Analyzer()
    for axis in axes:
        analyzer.bind(axis.var, ir.Range(0, axis.extent))
    return analyzer.simplify(expr)


def _guard(expr: Any) -> tuple[Any, Any]:
    """Match ``if_then_else(guard, value, 0)``; the guard is None elsewhere."""
    if isinstance(expr, ir.Call) and getattr(expr.op, "name", "") == "prim.if_then_else":
        condition, value, other = expr.args
        if isinstance(other, tirx.FloatImm) and other.value == 0:
            return value, condition
    return expr, None


def _mentioned(expr: Any, axes: Sequence[Axis]) -> list[Axis]:
    variables = find(expr, ir.Var)
    return [a for a in axes if any(a.var.same_as(v) for v in variables)]


def _stores(
    sch: s_tir.Schedule,
    blocks: Sequence[Any],
    result: Any,
    indices: Sequence[Any],
    unit: dict[Any, Any],
) -> tuple[Store, ...] | None:
    """Express the epilogue blocks over the axes of C; a load of C stays, as the finished sum.

    The value of a block that adds up is what it adds.
    """
    found = []
    for rv in blocks:
        block = sch.get(rv)
        loads = [x for x in find(block.body.value, ir.TensorLoad) if x.source.same_as(result)]
        values: dict[Any, Any] = {}
        for load in loads[:1]:
            values = {
                i: axis
                for i, axis in zip(load.indices, indices, strict=True)
                if isinstance(i, ir.Var)
            }
        wide = [v for v in block.iter_vars if int(v.dom.extent) > 1]
        same = all(_same_indices(x, loads[0]) for x in loads)
        if not loads or not same or any(v.var not in values for v in wide):
            return None
        for v in block.iter_vars:
            values.setdefault(v.var, tirx.const(0, v.var.ty.dtype))
        store = [rewrite(rewrite(i, values), unit) for i in block.body.indices]
        value = block.body.value if block.init is None else block.body.value.b
        value = rewrite(rewrite(value, values), unit)
        found.append(Store(block.body.buffer, tuple(store), value))
    return tuple(found)


def _same_indices(one: Any, other: Any) -> bool:
    return all(
        tvm_ffi.structural_equal(a, b) for a, b in zip(one.indices, other.indices, strict=True)
    )


def strides(expr: Any, axes: Sequence[Axis]) -> list[list[int]] | None:
    """Return, for every load in ``expr``, how far apart neighbours along each axis are."""
    found = []
    for load in find(expr, ir.TensorLoad):
        offset = tirx.const(0, axes[0].var.ty.dtype)
        for index, extent in zip(load.indices, load.source.shape, strict=True):
            offset = offset * extent + index
        parts = sym.detect_linear_equation(offset, [a.var for a in axes])
        if not parts or not all(isinstance(p, tirx.IntImm) for p in parts[: len(axes)]):
            return None
        found.append([int(p) for p in parts[: len(axes)]])
    return found


def _fused(axes: Sequence[Axis], operands: Sequence[Any]) -> list[Axes]:
    """Join neighbouring axes that every load walks through as one."""
    groups: list[Axes] = []
    rest = list(axes)
    while rest:
        rest, tail = _fused_tail(rest, operands)
        groups.insert(0, Axes(tuple(tail)))
    return groups


def _fused_tail(axes: Sequence[Axis], operands: Sequence[Any]) -> tuple[list[Axis], list[Axis]]:
    """Split axes into the outer ones and the longest tail that every load walks through as one."""
    if not axes:
        return [], []
    steps = [strides(x, axes) for x in operands]
    start = len(axes) - 1
    while start > 0 and all(
        s is not None and all(row[start - 1] == row[start] * axes[start].extent for row in s)
        for s in steps
    ):
        start -= 1
    return list(axes[:start]), list(axes[start:])

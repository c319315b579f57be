"""Steps that share their rows: softmax, layer normalisation, sums over the last axis.

for t in parallel(row blocks):
    for r in rows of the block:
        for each step:
            row[c], vectorized = …                       # kept in cache, or an output
            acc[4 vectors] = fold over c; halve acc down to one element
"""

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import PARALLEL, SERIAL, loop, rewrite, sequence, unravel
from pock_tvm.schedules.cpu.stages import extent, loads, vectorizable
from pock_tvm.schedules.cpu.steps import Step
from pock_tvm.schedules.cpu.vector_fold import VectorFold
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS
from pock_tvm.schedules.cpu.vectors import over_vectors, vector
from pock_tvm.targets import TargetSpec

_BLOCK_POINTS = 4096
"""Points of one block of rows: enough work to be worth handing out."""


def row_rank(step: Step) -> int | None:
    """Return how many leading axes a fold over trailing ones has; None if it folds otherwise."""
    if step.fold is None or not vectorizable(step.value, step.stage.reduced[-1]):
        return None
    shape = step.shape
    while shape and shape[-1] == 1:
        shape.pop()
    return len(shape)


def shares_rows(steps: Sequence[Step], rank: int) -> bool:
    """Tell whether all steps run over the same leading axes and read each other only there."""
    rows = steps[0].shape[:rank]
    for step in steps:
        if step.shape[:rank] != rows or (step.fold and row_rank(step) not in range(rank + 1)):
            return False
        if step.fold and prod(step.shape[rank:]) > 1:
            return False
        own = [v.var for v in step.stage.spatial[:rank]]
        for load in loads(step.value):
            inside = any(load.source.same_as(s.buffer) for s in steps)
            if inside and not all(
                i.same_as(v) for i, v in zip(load.indices[:rank], own, strict=True)
            ):
                return False
    return True


class RowSweep:
    """Builds the loops of one group of steps."""

    def __init__(
        self, steps: Sequence[Step], rank: int, kept: Sequence[Any], index: str, spec: TargetSpec
    ) -> None:
        self.steps, self.rank, self.kept, self.index, self.spec = steps, rank, kept, index, spec
        self.rows = steps[0].shape[:rank]
        self.local = {
            step.buffer: self._row_buffer(step)
            for step in steps
            if not any(step.buffer.same_as(b) for b in kept)
        }

    def build(self) -> Any:
        """Return the whole nest."""
        rows, points = prod(self.rows), max(self._points(s) for s in self.steps)
        per_block = min(rows, max(1, _BLOCK_POINTS // points))
        blocks = ceil(rows / per_block)

        def block(t: Any) -> Any:
            count = per_block
            if rows % per_block:
                count = tirx.min(tirx.const(per_block, self.index), rows - t * per_block)
            return sequence(
                *(tirx.AllocBuffer(b) for b in self.local.values()),
                loop("r", count, self.index, lambda r: self._row(t * per_block + r)),
            )

        kind = PARALLEL if rows * points * len(self.steps) >= PARALLEL_POINTS else SERIAL
        return loop("t", blocks, self.index, block, kind)

    def _points(self, step: Step) -> int:
        return prod([*step.shape[self.rank :], *(extent(v) for v in step.stage.reduced)])

    def _row_buffer(self, step: Step) -> Any:
        size = prod(step.shape[self.rank :])
        scope = "local" if size == 1 else "global"
        return tirx.decl_buffer(
            [tirx.const(size, self.index)], step.dtype, f"row_{step.stage.name}", scope=scope
        )

    def _row(self, row: Any) -> Any:
        at = unravel(row, self.rows)
        return sequence(*(self._fold(s, at) if s.fold else self._map(s, at) for s in self.steps))

    def _value(self, step: Step, row: list[Any], inner: dict[Any, Any]) -> Any:
        """Return the step's value with its axes replaced, reading earlier steps from their row."""
        axes = step.stage.spatial[: self.rank]
        values = {v.var: i for v, i in zip(axes, row, strict=True)} | inner
        zero = tirx.const(0, self.index)
        values = {v.var: zero for v in step.stage.spatial[self.rank :]} | values
        sources = {buffer: self._from_row(step, buffer) for buffer in self.local}
        return rewrite(step.value, values, sources)

    def _from_row(self, step: Step, buffer: Any) -> Any:
        def load(node: Any) -> Any:
            return tirx.BufferLoad(self.local[buffer], [self._flat(buffer, node.indices)])

        return load

    def _flat(self, buffer: Any, indices: Sequence[Any]) -> Any:
        flat = tirx.const(0, self.index)
        for i, n in list(zip(indices, buffer.shape, strict=True))[self.rank :]:
            flat = flat * int(n) + i
        return flat

    def _store(self, step: Step, row: list[Any], inner: list[Any], value: Any) -> Any:
        indices = [*row, *inner]
        if step.buffer in self.local:
            place = [self._flat(step.buffer, indices)]
            return tirx.BufferStore(self.local[step.buffer], value, place)
        return tirx.BufferStore(step.buffer, value, indices)

    def _map(self, step: Step, row: list[Any]) -> Any:
        axes = step.stage.spatial[self.rank :]

        def store(inner: list[Any]) -> Any:
            named = {v.var: i for v, i in zip(axes, inner, strict=True)}
            return self._store(step, row, inner, self._value(step, row, named))

        if not axes:
            return store([])
        lanes = self.spec.vector_lanes(step.dtype) if vectorizable(step.value, axes[-1]) else 1

        def at(depth: int, inner: list[Any]) -> Any:
            if depth < len(axes) - 1:
                return loop(
                    "i", extent(axes[depth]), self.index, lambda i: at(depth + 1, [*inner, i])
                )
            return over_vectors(
                extent(axes[-1]),
                lanes,
                self.index,
                lambda o, n: vector(n, self.index, lambda v: store([*inner, o + v])),
            )

        return at(0, [])

    def _fold(self, step: Step, row: list[Any]) -> Any:
        axes = step.stage.reduced
        fold = VectorFold(step, extent(axes[-1]), self.spec.vector_lanes(step.dtype), self.index)

        def over(depth: int, outer: list[Any]) -> Any:
            if depth < len(axes) - 1:
                return loop(
                    "k", extent(axes[depth]), self.index, lambda k: over(depth + 1, [*outer, k])
                )

            def element(c: Any) -> Any:
                named = {v.var: i for v, i in zip(axes, [*outer, c], strict=True)}
                return self._value(step, row, named)

            return fold.line(extent(axes[-1]), element)

        zeros = [tirx.const(0, self.index)] * (len(step.shape) - self.rank)
        return sequence(
            fold.start(), over(0, []), fold.finish(), self._store(step, row, zeros, fold.result)
        )

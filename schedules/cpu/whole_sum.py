"""Folds of a whole tensor to one element: losses, norms.

for t in parallel(chunks of about 4096 points):
    acc = fold over the chunk, in vectors
    sums[t] = acc
out = fold over t of sums[t]
"""

from math import ceil, prod
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import PARALLEL, SERIAL, loop, rewrite, sequence, unravel
from pock_tvm.schedules.cpu.stages import extent, vectorizable
from pock_tvm.schedules.cpu.steps import Step
from pock_tvm.schedules.cpu.vector_fold import VectorFold
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS
from pock_tvm.targets import TargetSpec

_CHUNK_POINTS = 4096


def is_whole_fold(step: Step) -> bool:
    """Tell whether a step folds everything into one element."""
    return step.fold is not None and prod(step.shape) == 1


class WholeSum:
    """Builds the loops of one fold."""

    def __init__(self, step: Step, index: str, spec: TargetSpec) -> None:
        self.step, self.index = step, index
        *self.outer, self.line = (extent(v) for v in step.stage.reduced)
        is_vector = vectorizable(step.value, step.stage.reduced[-1])
        self.lanes = spec.vector_lanes(step.dtype) if is_vector else 1

    def build(self) -> Any:
        """Return the whole nest."""
        rows = prod(self.outer)
        if rows == 1:
            full, rest = divmod(self.line, _CHUNK_POINTS)
            chunks = full + bool(rest)
        else:
            per_chunk = min(rows, max(1, _CHUNK_POINTS // self.line))
            chunks = ceil(rows / per_chunk)
        sums = tirx.decl_buffer([tirx.const(chunks, self.index)], self.step.dtype, "sums")

        def part(t: Any) -> Any:
            begin = t * _CHUNK_POINTS
            return self._into(
                sums, t, _CHUNK_POINTS, lambda f: self._line(f, 0, begin, _CHUNK_POINTS)
            )

        def block(t: Any) -> Any:
            count: Any = per_chunk
            if rows % per_chunk:
                count = tirx.min(tirx.const(per_chunk, self.index), rows - t * per_chunk)
            return self._into(
                sums,
                t,
                self.line,
                lambda f: loop(
                    "r",
                    count,
                    self.index,
                    lambda r: self._line(
                        f, t * per_chunk + r, tirx.const(0, self.index), self.line
                    ),
                ),
            )

        points = rows * self.line
        kind = PARALLEL if points >= PARALLEL_POINTS else SERIAL
        if rows == 1:
            last, begin = tirx.const(full, self.index), tirx.const(full * _CHUNK_POINTS, self.index)
            chunk_loop = sequence(
                loop("t", full, self.index, part, kind) if full else None,
                self._into(sums, last, rest, lambda f: self._line(f, 0, begin, rest))
                if rest
                else None,
            )
        else:
            chunk_loop = loop("t", chunks, self.index, block, kind)
        return sequence(tirx.AllocBuffer(sums), chunk_loop, self._total(sums, chunks))

    def _into(self, sums: Any, t: Any, length: int, lines: Any) -> Any:
        fold = VectorFold(self.step, length, self.lanes, self.index)
        store = tirx.BufferStore(sums, fold.result, [t])
        return sequence(fold.start(), lines(fold), fold.finish(), store)

    def _line(self, fold: VectorFold, row: Any, begin: Any, length: int) -> Any:
        outer = unravel(row, self.outer) if self.outer else []
        at = [tirx.const(i, self.index) if isinstance(i, int) else i for i in outer]
        zero = tirx.const(0, self.index)

        def element(c: Any) -> Any:
            named = {v.var: zero for v in self.step.stage.spatial}
            axes = self.step.stage.reduced
            named |= {v.var: i for v, i in zip(axes, [*at, begin + c], strict=True)}
            return rewrite(self.step.value, named)

        return fold.line(length, element)

    def _total(self, sums: Any, chunks: int) -> Any:
        out, zeros = self.step.buffer, [tirx.const(0, self.index)] * len(self.step.shape)
        fold = self.step.fold
        assert fold is not None

        def add(t: Any) -> Any:
            value = fold(tirx.BufferLoad(out, zeros), tirx.BufferLoad(sums, [t]))
            return tirx.BufferStore(out, value, zeros)

        start = tirx.BufferStore(out, self.step.identity, zeros)
        return sequence(start, loop("t", chunks, self.index, add))

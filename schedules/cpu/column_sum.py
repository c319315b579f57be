"""Folds over outer axes that keep the last: channel sums, bias gradients, means over pixels.

    for t in parallel(kept leading axes · splits):
        for chunk in the split's rows, about 256 points each:
            for c in four vectors:
                acc[4 vectors] = 0                          # registers
                for rows, columns of the chunk: acc = fold(acc, value)
                sums[split, c] = fold(sums[split, c], acc)
    out[c] = epilogue(fold over splits of sums[split, c])

The number of splits depends on the shape alone. Folding chunk by chunk keeps the rounding error of
a sum over 10⁵ pixels near that of one over a few hundred.
"""

# ruff: noqa: B023 - loop() and vector() call the body at once, no closure outlives its turn

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import PARALLEL, SERIAL, loop, rewrite, sequence, unravel
from pock_tvm.schedules.cpu.stages import extent, loads, vectorizable
from pock_tvm.schedules.cpu.steps import Step
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS
from pock_tvm.schedules.cpu.vectors import over_vectors, pieces, pointwise, simultaneously, vector
from pock_tvm.targets import TargetSpec

_CHUNK_POINTS = 256
_SPLITS = 8
_VECTORS = 4


def is_column_fold(step: Step) -> bool:
    """Tell whether neighbouring results fold neighbouring elements."""
    axes = step.stage.spatial
    return bool(step.fold and axes) and extent(axes[-1]) > 1 and vectorizable(step.value, axes[-1])


def is_epilogue(step: Step, anchor: Step) -> bool:
    """Tell whether a step is one expression of the anchor's result at the same point."""
    own = [v.var for v in step.stage.spatial]
    return (
        step.fold is None
        and step.shape == anchor.shape
        and all(
            all(i.same_as(v) for i, v in zip(load.indices, own, strict=True))
            for load in loads(step.value)
            if load.source.same_as(anchor.buffer)
        )
    )


class ColumnSum:
    """Builds the loops of one fold and of its epilogues."""

    def __init__(
        self,
        anchor: Step,
        epilogues: Sequence[Step],
        kept: Sequence[Any],
        index: str,
        spec: TargetSpec,
    ) -> None:
        self.step, self.epilogues, self.index = anchor, epilogues, index
        self.keeps = any(anchor.buffer.same_as(b) for b in kept)
        *self.lead, self.width = anchor.shape
        *outer, last = (extent(v) for v in anchor.stage.reduced)
        self.outer, self.inner = (outer, last) if outer else ([last], 1)
        self.lanes = spec.vector_lanes(anchor.dtype)
        rows = prod(self.outer)
        self.chunk = min(rows, max(1, _CHUNK_POINTS // self.inner))
        self.chunks = ceil(rows / self.chunk)
        work = prod(self.lead) * rows * self.inner * self.width
        self.is_parallel = work >= PARALLEL_POINTS
        shared = self.is_parallel and prod(self.lead) < _SPLITS
        self.splits = min(self.chunks, _SPLITS) if shared else 1

    def build(self) -> Any:
        """Return the whole nest."""
        shape = [prod(self.lead), self.splits, self.width]
        if self.splits == 1:
            return loop("t", shape[0], self.index, self._whole, self._kind)
        sums = self._sums(shape)

        def task(t: Any) -> Any:
            lead, split = unravel(t, shape[:2])
            return self._split(sums, lead, split)

        return sequence(
            tirx.AllocBuffer(sums),
            loop("t", shape[0] * shape[1], self.index, task, self._kind),
            pointwise(self.step.shape, self.lanes, self.index, lambda at: self._results(sums, at)),
        )

    @property
    def _kind(self) -> Any:
        return PARALLEL if self.is_parallel else SERIAL

    def _sums(self, shape: Sequence[int]) -> Any:
        return tirx.decl_buffer([tirx.const(n, self.index) for n in shape], self.step.dtype, "sums")

    def _whole(self, lead: Any) -> Any:
        """Fold, and store, what belongs to one point of the leading axes."""
        sums, zero = self._sums([1, 1, self.width]), tirx.const(0, self.index)
        at = unravel(lead, self.lead)
        return sequence(
            tirx.AllocBuffer(sums),
            self._split(sums, lead, zero),
            over_vectors(
                self.width,
                self.lanes,
                self.index,
                lambda c, n: simultaneously(
                    c, n, self.index, at, lambda indices: self._results(sums, indices)
                ),
            ),
        )

    def _place(self, lead: Any, split: Any, column: Any) -> list[Any]:
        """Return where a sum stands; without splits every task has sums of its own."""
        return [tirx.const(0, self.index) if self.splits == 1 else lead, split, column]

    def _results(self, sums: Any, at: list[Any]) -> list[Any]:
        lead = tirx.const(0, self.index)
        for i, n in zip(at[:-1], self.lead, strict=True):
            lead = lead * n + i
        fold, value = self.step.fold, self.step.identity
        assert fold is not None
        for s in range(self.splits):
            part = tirx.BufferLoad(sums, self._place(lead, tirx.const(s, self.index), at[-1]))
            value = fold(value, part) if s else part
        stores = [tirx.BufferStore(self.step.buffer, value, at)] if self.keeps else []
        for step in self.epilogues:
            named = {v.var: i for v, i in zip(step.stage.spatial, at, strict=True)}
            result = rewrite(step.value, named, {self.step.buffer: lambda _: value})
            stores.append(tirx.BufferStore(step.buffer, result, at))
        return stores

    def _split(self, sums: Any, lead: Any, split: Any) -> Any:
        per_split = ceil(self.chunks / self.splits)
        first = split * per_split
        count: Any = per_split
        if self.chunks % self.splits:
            least = tirx.min(tirx.const(per_split, self.index), self.chunks - first)
            count = tirx.max(least, tirx.const(0, self.index))

        def zero(v: Any) -> Any:
            return tirx.BufferStore(sums, self.step.identity, self._place(lead, split, v))

        start = over_vectors(
            self.width,
            self.lanes,
            self.index,
            lambda c, n: vector(n, self.index, lambda v: zero(c + v)),
        )
        return sequence(
            start,
            loop("chunk", count, self.index, lambda k: self._chunk(sums, lead, split, first + k)),
        )

    def _chunk(self, sums: Any, lead: Any, split: Any, chunk: Any) -> Any:
        rows = prod(self.outer)
        start = chunk * self.chunk
        count: Any = self.chunk
        if rows % self.chunk:
            count = tirx.min(tirx.const(self.chunk, self.index), rows - start)
        step = self.lanes * _VECTORS
        rounds = self.width // step

        def columns(c: Any, cuts: list[tuple[int, int]]) -> Any:
            return self._columns(sums, lead, split, c, cuts, start, count)

        full = [(k * self.lanes, self.lanes) for k in range(_VECTORS)]
        rest = pieces(self.width - rounds * step, self.lanes)
        return sequence(
            loop("c", rounds, self.index, lambda c: columns(c * step, full)) if rounds else None,
            columns(tirx.const(rounds * step, self.index), rest) if rest else None,
        )

    def _columns(
        self,
        sums: Any,
        lead: Any,
        split: Any,
        c: Any,
        cuts: list[tuple[int, int]],
        start: Any,
        count: Any,
    ) -> Any:
        fold = self.step.fold
        assert fold is not None
        width = sum(n for _, n in cuts)
        acc = tirx.decl_buffer(
            [tirx.const(width, self.index)], self.step.dtype, "acc", scope="local"
        )
        spatial, reduced = self.step.stage.spatial, self.step.stage.reduced
        lead_at = unravel(lead, self.lead)

        def vectors(body: Any) -> list[Any]:
            return [vector(n, self.index, lambda v: body(o + v)) for o, n in cuts]

        def add(r: Any, j: Any) -> Any:
            outer = unravel(start + r, self.outer)
            at = [*outer, j] if len(reduced) > 1 else outer

            def one(v: Any) -> Any:
                named = {a.var: i for a, i in zip(spatial, [*lead_at, c + v], strict=True)}
                named |= {a.var: i for a, i in zip(reduced, at, strict=True)}
                value = fold(tirx.BufferLoad(acc, [v]), rewrite(self.step.value, named))
                return tirx.BufferStore(acc, value, [v])

            return sequence(*vectors(one))

        def finish(v: Any) -> Any:
            place = self._place(lead, split, c + v)
            value = fold(tirx.BufferLoad(sums, place), tirx.BufferLoad(acc, [v]))
            return tirx.BufferStore(sums, value, place)

        return sequence(
            tirx.AllocBuffer(acc),
            *vectors(lambda v: tirx.BufferStore(acc, self.step.identity, [v])),
            loop(
                "r",
                count,
                self.index,
                lambda r: loop("j", self.inner, self.index, lambda j: add(r, j)),
            ),
            *vectors(finish),
        )

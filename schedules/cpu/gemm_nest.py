"""The loops of a blocked contraction, drawn in ``gemm``, for operands of any kind."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from tvm import tirx

from pock_tvm.schedules.cpu.folds import Folds
from pock_tvm.schedules.cpu.nest import (
    PARALLEL,
    SERIAL,
    UNROLLED,
    loop,
    rewrite,
    sequence,
    unravel,
)
from pock_tvm.schedules.cpu.prefetch import prefetch_epilogue
from pock_tvm.schedules.cpu.tile_loops import Block, Columns, Rows, TileLoops, Values
from pock_tvm.schedules.cpu.vectors import cut_vectors, pieces, simultaneously


class TileOperands(Protocol):
    """The operands of a contraction: how they are packed, and how tiles of them are multiplied."""

    loops: TileLoops
    panel: Any
    """Buffer of the right operand, or None."""
    left_rows: Any
    """Buffer of the rows of a tile, or None."""

    def padded(self, width: int) -> int:
        """Return how many columns a tile of ``width`` has among the accumulators."""

    def pack(self, block: Block, group: Any) -> Any:
        """Fill the panel of a group."""

    def pack_all(self, kind: Any) -> Any:
        """Fill the panel of all columns."""

    def copy_left(self, block: Block, rows: Rows) -> Any:
        """Copy the rows of a tile, if they are to be copied."""

    def multiply(self, block: Block, rows: Rows, columns: Columns, acc: Any) -> Any:
        """Add the products of a block to ``acc``, a buffer of rows of padded columns."""


class Nest:
    """Builds the loops of one contraction around the product of its operands' tiles."""

    def __init__(self, operands: TileOperands) -> None:
        self.operands, self.loops = operands, operands.loops
        self.c, self.b, self.index = self.loops.c, self.loops.b, self.loops.index
        self.width = operands.padded(self.b.width)
        self.pitch = self.b.group * self.width
        self.partial = None
        if self.b.sum.blocks > 1:
            size = self.b.parts * self.loops.chunk_rows * self.pitch
            self.partial = self._buffer(size, "partial")
        self.chunks = -(-self.b.units // self.b.chunk)
        self.folds = Folds(self.loops, self.chunks)

    def build(self) -> Any:
        """Return the whole nest."""
        kind = PARALLEL if self.b.parallel else SERIAL
        return self.folds.around(self._parts(kind) if self.b.parts > 1 else self._tasks(kind))

    def _tasks(self, kind: Any) -> Any:
        """Compute chunks of rows and groups of columns side by side."""
        groups = -(-self.loops.all_tiles // self.b.group)
        counts = [self.c.batch.extent, self.chunks, groups]

        def task(t: Any) -> Any:
            batch, chunk, group = unravel(t, counts)
            return self._task(self.c.batch.at(batch), chunk * self.b.chunk, group)

        tasks = loop("t", counts[0] * counts[1] * counts[2], self.index, task, kind)
        if not self.b.shared:
            return tasks
        panel = tirx.AllocBuffer(self.operands.panel)
        return sequence(panel, self.operands.pack_all(kind), tasks)

    def _task(self, batch: Values, first: Any, group: Any) -> Any:
        private = None if self.b.shared else self.operands.panel
        buffers = (private, self.operands.left_rows, self.partial)

        def sums(part: Block) -> Any:
            return sequence(
                None if private is None else self.operands.pack(part, group),
                self.loops.row_tiles_of(first, partial(self._row_tile, part, group)),
            )

        def rows(body: Any) -> Any:
            return self.loops.row_tiles_of(first, body)

        return sequence(
            *(tirx.AllocBuffer(b) for b in buffers if b is not None),
            rows(partial(self._begin, group)) if self.partial is not None else None,
            self.loops.blocks(batch, sums),
            rows(partial(self._finish, batch, group)) if self.partial is not None else None,
        )

    def _parts(self, kind: Any) -> Any:
        """Sum parts of the products side by side, each over the whole result, then add them."""

        def of(part: Any, rows: Rows) -> Rows:
            return replace(rows, local=rows.local + part * self.loops.chunk_rows)

        def task(part: Any) -> Any:
            def sums(block: Block) -> Any:
                def tile(rows: Rows) -> Any:
                    return self._row_tile(block, zero, of(part, rows))

                return self.loops.row_tiles_of(zero, tile)

            def begin(rows: Rows) -> Any:
                return self._begin(zero, of(part, rows))

            left = self.operands.left_rows
            return sequence(
                None if left is None else tirx.AllocBuffer(left),
                self.loops.row_tiles_of(zero, begin),
                self.loops.blocks({}, sums, part),
            )

        zero = self.loops.number(0)
        return sequence(
            tirx.AllocBuffer(self.partial),
            loop("t", self.b.parts, self.index, task, kind),
            self.loops.row_tiles_of(zero, partial(self._finish, {}, zero)),
        )

    def _row_tile(self, part: Block, group: Any, rows: Rows) -> Any:
        tiles = self.loops.column_tiles_of(group, partial(self._tile, part, rows))
        return sequence(self.operands.copy_left(part, rows), tiles)

    def _tile(self, part: Block, rows: Rows, columns: Columns) -> Any:
        """One register tile: begin, accumulate over a block, store."""
        width = self.operands.padded(columns.width)
        acc = self._buffer(rows.height * width, "acc", "local")

        def total(r: Any, v: Any) -> Any:
            return tirx.BufferLoad(acc, [r * width + v])

        def every(body: Callable[[Any, Any], Any]) -> Any:
            def row(r: Any) -> Any:
                return self._vectors(width, partial(body, r))

            return loop("r", rows.height, self.index, row, UNROLLED)

        def begin(r: Any, v: Any) -> Any:
            first = tirx.const(0, self.c.dtype)
            if self.partial is not None:
                first = tirx.BufferLoad(self.partial, self._place(rows, columns, r, v))
            return tirx.BufferStore(acc, first, [r * width + v])

        def keep(r: Any, v: Any) -> Any:
            return tirx.BufferStore(self.partial, total(r, v), self._place(rows, columns, r, v))

        def finish(r: Any) -> Any:
            return self._epilogue(part.values, rows, columns, r, partial(total, r))

        return sequence(
            tirx.AllocBuffer(acc),
            every(begin),
            prefetch_epilogue(self.loops, part, rows, columns)
            if self.b.prefetches_epilogue
            else None,
            self.operands.multiply(part, rows, columns, acc),
            loop("r", rows.height, self.index, finish, UNROLLED)
            if self.partial is None
            else every(keep),
        )

    # Sums over several blocks rest in ``partial`` in between.

    def _place(self, rows: Rows, columns: Columns, r: Any, v: Any) -> list[Any]:
        return [(rows.local + r) * self.pitch + columns.slot * self.width + v]

    def _begin(self, group: Any, rows: Rows) -> Any:
        def clear(columns: Columns, r: Any, v: Any) -> Any:
            zero = tirx.const(0, self.c.dtype)
            return tirx.BufferStore(self.partial, zero, self._place(rows, columns, r, v))

        def tile(columns: Columns) -> Any:
            def row(r: Any) -> Any:
                return self._vectors(
                    self.operands.padded(columns.width), partial(clear, columns, r)
                )

            return loop("r", rows.height, self.index, row)

        return self.loops.column_tiles_of(group, tile)

    def _finish(self, batch: Values, group: Any, rows: Rows) -> Any:
        def total(columns: Columns, r: Any, v: Any) -> Any:
            found = None
            for part in range(self.b.parts):
                moved = replace(rows, local=rows.local + part * self.loops.chunk_rows)
                one = tirx.BufferLoad(self.partial, self._place(moved, columns, r, v))
                found = one if found is None else found + one
            return found

        def tile(columns: Columns) -> Any:
            def row(r: Any) -> Any:
                return self._epilogue(batch, rows, columns, r, partial(total, columns, r))

            return loop("r", rows.height, self.index, row)

        return self.loops.column_tiles_of(group, tile)

    def _epilogue(
        self, batch: Values, rows: Rows, columns: Columns, r: Any, total: Callable[[Any], Any]
    ) -> Any:
        """Store one row of a tile whose sums ``total`` are finished."""

        def stores(place: list[Any]) -> list[Any]:
            (v,) = place
            at = batch | rows.outer | self.c.rows.at(rows.start + r)
            at |= self.c.columns.at(columns.start + v)
            return [
                tirx.BufferStore(
                    store.buffer,
                    rewrite(store.value, at, {self.c.result: lambda _: total(v)}),
                    [rewrite(i, at) for i in store.indices],
                )
                for store in (*self.folds.at(rows.chunk, columns.start + v), *self.c.stores)
            ]

        cuts = pieces(columns.width, self.b.tile.lanes)
        return sequence(*(simultaneously(o, n, self.index, [], stores) for o, n in cuts))

    def _vectors(self, width: int, body: Any) -> Any:
        return cut_vectors(width, self.b.tile.lanes, self.index, body)

    def _buffer(self, size: int, name: str, scope: str = "global") -> Any:
        return tirx.decl_buffer([self.loops.number(size)], self.c.dtype, name, scope=scope)

"""Everything GEMM-shaped: matrix products, convolutions and their gradients.

    for t in parallel(batch · chunks of rows · groups of columns):
        for ko in blocks of the sum:                   # one, where the panel fits in cache
            panel[j, k, v] = right[…]                  # group · kc · width, contiguous
            for i in row tiles of the chunk:
                for j in column tiles of the group:
                    acc[rows, width] = 0               # registers
                    for k in block:
                        for r, v in unrolled: acc[r, v] += left[i + r, k] · panel[j, k, v]
                    out[i + r, j + v] = epilogue(acc[r, v])     # after the last block

A small result that sums over operands larger than the cache, as the weight gradient of a 1x1
convolution over many pixels, has its sum cut instead: each task sums some of the products for the
whole result, and the parts are added in order.

    for t in parallel(parts): part[t, …] = Σ over its blocks of the sum, as above
    out = epilogue(part[0, …] + part[1, …] + …)

Rows and columns that are left over get tiles of their own, so no loop carries a condition. The
order of every sum depends on the shapes alone, never on the number of threads.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tvm import ir, s_tir, tirx

from pock_tvm.schedules.cpu.blocking import Blocking, block
from pock_tvm.schedules.cpu.contraction import Contraction, read_contraction
from pock_tvm.schedules.cpu.dot import dot_nest
from pock_tvm.schedules.cpu.nest import (
    PARALLEL,
    SERIAL,
    UNROLLED,
    find,
    loop,
    rewrite,
    sequence,
    unravel,
)
from pock_tvm.schedules.cpu.panels import Operands
from pock_tvm.schedules.cpu.tile_loops import Block, Columns, Rows, TileLoops, Values
from pock_tvm.schedules.cpu.vectors import pieces, simultaneously
from pock_tvm.targets import TargetSpec


def gemm(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule a kernel around one sum of products."""
    sch = s_tir.Schedule(func)
    contraction = read_contraction(sch, spec)
    if contraction is None:
        return None
    nest = dot_nest(contraction, spec)
    if nest is None:
        nest = Nest(contraction, block(contraction, spec)).build()
    root = sch.get(sch.get_sblock("root"))
    kept = [b for b in root.alloc_buffers if any(_writes(p, b) for p in contraction.prologues)]
    body = sequence(*contraction.prologues, nest)
    outer = s_tir.SBlock([], [], [], "root", body, alloc_buffers=kept)
    scheduled = func.with_body(s_tir.SBlockRealize([], tirx.const(1, "bool"), outer))
    return s_tir.Schedule(ir.IRModule({"main": scheduled}))


def _writes(statement: Any, buffer: Any) -> bool:
    return any(s.buffer.same_as(buffer) for s in find(statement, tirx.BufferStore))


class Nest:
    """Builds the loops of one contraction."""

    def __init__(self, contraction: Contraction, blocking: Blocking) -> None:
        self.c, self.b = contraction, blocking
        self.loops = TileLoops(contraction, blocking)
        self.operands = Operands(self.loops)
        self.index = self.loops.index
        self.pitch = blocking.group * blocking.width
        self.partial = None
        if blocking.sum.blocks > 1:
            size = blocking.parts * self.loops.chunk_rows * self.pitch
            self.partial = self._buffer(size, "partial")

    def build(self) -> Any:
        """Return the whole nest."""
        chunks, groups = -(-self.b.units // self.b.chunk), -(-self.loops.all_tiles // self.b.group)
        counts = [self.c.batch.extent, chunks, groups]
        kind = PARALLEL if self.b.parallel else SERIAL
        if self.b.parts > 1:
            return self._parts(kind)

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
        acc = self._buffer(rows.height * columns.width, "acc", "local")

        def total(r: Any, v: Any) -> Any:
            return tirx.BufferLoad(acc, [r * columns.width + v])

        def put(value: Any, r: Any, v: Any) -> Any:
            return tirx.BufferStore(acc, value, [r * columns.width + v])

        def every(body: Callable[[Any, Any], Any]) -> Any:
            def row(r: Any) -> Any:
                return self.operands.vectors(columns.width, partial(body, r))

            return loop("r", rows.height, self.index, row, UNROLLED)

        def begin(r: Any, v: Any) -> Any:
            if self.partial is None:
                return put(tirx.const(0, self.c.dtype), r, v)
            return put(tirx.BufferLoad(self.partial, self._place(rows, columns, r, v)), r, v)

        def accumulate(values: Values, k: Any) -> Any:
            def product(r: Any, v: Any) -> Any:
                left = self.operands.left(values, k, rows, r)
                right = self.operands.right(values, k, columns, v)
                return put(total(r, v) + left * right, r, v)

            return every(product)

        def keep(r: Any, v: Any) -> Any:
            return tirx.BufferStore(self.partial, total(r, v), self._place(rows, columns, r, v))

        def finish(r: Any) -> Any:
            return self._epilogue(part.values, rows, columns, r, partial(total, r))

        return sequence(
            tirx.AllocBuffer(acc),
            every(begin),
            self.loops.products_of(part, accumulate),
            loop("r", rows.height, self.index, finish, UNROLLED)
            if self.partial is None
            else every(keep),
        )

    # Sums over several blocks rest in ``partial`` in between.

    def _place(self, rows: Rows, columns: Columns, r: Any, v: Any) -> list[Any]:
        return [(rows.local + r) * self.pitch + columns.slot * self.b.width + v]

    def _begin(self, group: Any, rows: Rows) -> Any:
        def clear(columns: Columns, r: Any, v: Any) -> Any:
            zero = tirx.const(0, self.c.dtype)
            return tirx.BufferStore(self.partial, zero, self._place(rows, columns, r, v))

        def tile(columns: Columns) -> Any:
            def row(r: Any) -> Any:
                return self.operands.vectors(columns.width, partial(clear, columns, r))

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
                for store in self.c.stores
            ]

        cuts = pieces(columns.width, self.b.tile.lanes)
        return sequence(*(simultaneously(o, n, self.index, [], stores) for o, n in cuts))

    def _buffer(self, size: int, name: str, scope: str = "global") -> Any:
        return tirx.decl_buffer([self.loops.number(size)], self.c.dtype, name, scope=scope)

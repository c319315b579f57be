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

Rows and columns that are left over get tiles of their own, so no loop carries a condition. The
order of every sum depends on the shapes alone, never on the number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import ir, s_tir, tirx

from pock_tvm.schedules.cpu.blocking import Blocking, block
from pock_tvm.schedules.cpu.contraction import Contraction, read_contraction
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
from pock_tvm.schedules.cpu.vectors import pieces, simultaneously, vector
from pock_tvm.targets import TargetSpec

Values = dict[Any, Any]


def gemm(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule a kernel around one sum of products."""
    sch = s_tir.Schedule(func)
    contraction = read_contraction(sch, spec)
    if contraction is None:
        return None
    nest = Nest(contraction, block(contraction, spec))
    root = sch.get(sch.get_sblock("root"))
    kept = [b for b in root.alloc_buffers if any(_writes(p, b) for p in contraction.prologues)]
    body = sequence(*contraction.prologues, nest.build())
    outer = s_tir.SBlock([], [], [], "root", body, alloc_buffers=kept)
    scheduled = func.with_body(s_tir.SBlockRealize([], tirx.const(1, "bool"), outer))
    return s_tir.Schedule(ir.IRModule({"main": scheduled}))


def _writes(statement: Any, buffer: Any) -> bool:
    return any(s.buffer.same_as(buffer) for s in find(statement, tirx.BufferStore))


@dataclass(frozen=True)
class Rows:
    """The rows of one register tile."""

    outer: Values
    """Where the outer rows stand."""
    start: Any
    """First of the rows."""
    height: int
    local: Any
    """First of the rows, counted from the chunk's first."""


@dataclass(frozen=True)
class Columns:
    """The columns of one register tile."""

    start: Any
    width: int
    slot: Any
    """Number of the tile within its group."""


@dataclass(frozen=True)
class Block:
    """One block of the sum, in one task."""

    values: Values
    """Where the batch axes and the outer reduced axes stand."""
    start: Any
    """First index of the axis that is cut."""
    size: Any
    """Number of its indices."""


class Nest:
    """Builds the loops of one contraction."""

    def __init__(self, contraction: Contraction, blocking: Blocking) -> None:
        self.c = contraction
        self.b = blocking
        self.index = contraction.index_dtype
        self.row_tiles, self.spare_rows = divmod(contraction.rows.extent, blocking.tile.rows)
        self.tiles, self.spare_columns = divmod(contraction.columns.extent, blocking.width)
        self.pitch = blocking.sum.length * blocking.width
        self.panel = self._buffer(blocking.group * self.pitch, "panel") if blocking.packs else None
        # 16 elements more, so that the rows of a copied tile fall into different cache sets.
        self.left_pitch = blocking.sum.length + 16
        self.left_rows = None
        if blocking.copies_left:
            self.left_rows = self._buffer(blocking.tile.rows * self.left_pitch, "left_rows")
        chunk_rows = blocking.chunk * contraction.rows.extent
        if contraction.outer_rows.extent == 1:
            chunk_rows = blocking.chunk * blocking.tile.rows + self.spare_rows
        self.partial = None
        if blocking.sum.blocks > 1:
            self.partial_pitch = blocking.group * blocking.width
            self.partial = self._buffer(chunk_rows * self.partial_pitch, "partial")

    # From tasks to tiles.

    def build(self) -> Any:
        """Return the whole nest."""
        chunks, groups = -(-self.b.units // self.b.chunk), -(-self._all_tiles() // self.b.group)
        counts = [self.c.batch.extent, chunks, groups]
        kind = PARALLEL if self.b.parallel else SERIAL

        def task(t: Any) -> Any:
            batch, chunk, group = unravel(t, counts)
            return self._task(self.c.batch.at(batch), chunk * self.b.chunk, group)

        tasks = loop("t", counts[0] * counts[1] * counts[2], self.index, task, kind)
        if not self.b.shared:
            return tasks
        return sequence(self._allocate(self.panel), self._pack_shared(kind), tasks)

    def _task(self, batch: Values, first: Any, group: Any) -> Any:
        private = None if self.b.shared else self.panel
        buffers = [
            self._allocate(b) for b in (private, self.left_rows, self.partial) if b is not None
        ]
        if self.b.sum.cut is None:
            whole = Block(batch, 0, 1)
            return sequence(
                *buffers,
                None if private is None else self._pack(whole, group),
                self._row_tiles(first, partial(self._row_tile, whole, group)),
            )

        def one(block: Block) -> Any:
            pack = None if private is None else self._pack(block, group)
            return sequence(pack, self._row_tiles(first, partial(self._row_tile, block, group)))

        return sequence(
            *buffers,
            self._row_tiles(first, partial(self._begin_partial, group)),
            self._blocks(batch, one),
            self._row_tiles(first, partial(self._end_partial, batch, group)),
        )

    def _blocks(self, batch: Values, body: Callable[[Block], Any]) -> Any:
        cut, size = self.b.sum.cut, self.b.sum.chunk

        def at(ko: Any) -> Any:
            counts = [*(g.extent for g in self.b.sum.outer), self.b.sum.cuts]
            *outer, last = unravel(ko, counts)
            values = dict(batch)
            for group, position in zip(self.b.sum.outer, outer, strict=True):
                values |= group.at(position)
            return body(Block(values, last * size, self._at_most(size, cut.extent, last * size)))

        return loop("ko", self.b.sum.blocks, self.index, at)

    def _row_tiles(self, first: Any, emit: Callable[[Rows], Any]) -> Any:
        """Call ``emit`` for every row tile of the chunk that begins at unit ``first``."""
        height, extent = self.b.tile.rows, self.c.rows.extent
        units = self._at_most(self.b.chunk, self.b.units, first)
        done = self.row_tiles * height

        def outer(o: Any) -> Any:
            at = self.c.outer_rows.at(first + o)
            full = loop(
                "i",
                self.row_tiles,
                self.index,
                lambda i: emit(Rows(at, i * height, height, o * extent + i * height)),
            )
            spare = Rows(at, self._int(done), self.spare_rows, o * extent + done)
            return sequence(full, emit(spare) if self.spare_rows else None)

        if self.c.outer_rows.extent > 1:
            return loop("o", units, self.index, outer)
        full = loop(
            "i",
            units,
            self.index,
            lambda i: emit(Rows({}, (first + i) * height, height, i * height)),
        )
        if not self.spare_rows:
            return full
        spare = emit(Rows({}, self._int(done), self.spare_rows, done - first * height))
        if self.b.chunk >= self.b.units:
            return sequence(full, spare)
        is_last = first + units >= self.row_tiles
        return sequence(full, tirx.IfThenElse(is_last, spare, None))

    def _column_tiles(self, group: Any, emit: Callable[[Columns], Any]) -> Any:
        """Call ``emit`` for every column tile of a group."""
        width, first = self.b.width, group * self.b.group
        count = self._at_most(self.b.group, self.tiles, first)
        if self.spare_columns and self._all_tiles() > self.b.group:
            count = tirx.min(self._int(self.b.group), self.tiles - first)
        full = loop(
            "j",
            count,
            self.index,
            lambda j: emit(Columns((first + j) * width, width, j)),
        )
        if not self.spare_columns:
            return full
        spare = emit(Columns(self._int(self.tiles * width), self.spare_columns, self.tiles - first))
        if self._all_tiles() <= self.b.group:
            return sequence(full, spare)
        is_last = first + self.b.group > self.tiles
        return sequence(full, tirx.IfThenElse(is_last, spare, None))

    # Inside a task.

    def _products(self, block: Block, body: Callable[[Values, Any], Any]) -> Any:
        """Run through a block of the sum: ``body(axis values, number of the product)``."""
        cut = self.b.sum.cut
        groups = self.b.sum.inner if cut is None else (cut, *self.b.sum.inner)

        def at(depth: int, values: Values, number: Any) -> Any:
            statement: Any
            if depth == len(groups):
                statement = body(values, number)
            else:
                group = groups[depth]
                in_cut = depth == 0 and cut is not None
                start, size = (block.start, block.size) if in_cut else (0, group.extent)
                statement = loop(
                    "k",
                    size,
                    self.index,
                    lambda k: at(depth + 1, values | group.at(start + k), number * size + k),
                )
            if self.c.guard is not None and depth == self._guard_depth(groups):
                return tirx.IfThenElse(rewrite(self.c.guard, values), statement, None)
            return statement

        return at(0, block.values, self._int(0))

    def _guard_depth(self, groups: Any) -> int:
        """Return the number of loops after which the guard of the sum is known."""
        variables = find(self.c.guard, ir.Var)
        return max(
            (
                depth + 1
                for depth, group in enumerate(groups)
                if any(a.var.same_as(v) for a in group.members for v in variables)
            ),
            default=0,
        )

    def _pack(self, block: Block, group: Any) -> Any:
        def row(values: Values, k: Any) -> Any:
            return self._column_tiles(group, partial(self._pack_row, values, k))

        return self._products(block, row)

    def _pack_shared(self, kind: Any) -> Any:
        """Pack all columns, one tile per task."""
        if self.c.batch.extent > 1:
            raise ValueError("a shared panel holds one matrix")
        zero = {a.var: self._int(0) for a in self.c.batch.members}

        def tile(columns: Columns) -> Any:
            return self._products(
                Block(zero, 0, 1), lambda values, k: self._pack_row(values, k, columns)
            )

        full = loop(
            "j",
            self.tiles,
            self.index,
            lambda j: tile(Columns(j * self.b.width, self.b.width, j)),
            kind,
        )
        if not self.spare_columns:
            return full
        start = self.tiles * self.b.width
        return sequence(full, tile(Columns(self._int(start), self.spare_columns, self.tiles)))

    def _pack_row(self, values: Values, k: Any, columns: Columns) -> Any:
        def copy(v: Any) -> Any:
            source = rewrite(self.c.right, values | self.c.columns.at(columns.start + v))
            place = columns.slot * self.pitch + k * columns.width + v
            return tirx.BufferStore(self.panel, source, [place])

        return self._vectors(columns.width, copy)

    def _row_tile(self, block: Block, group: Any, rows: Rows) -> Any:
        tiles = self._column_tiles(group, partial(self._tile, block, rows))
        if self.left_rows is None:
            return tiles

        def copy(r: Any) -> Any:
            return self._products(
                block,
                lambda values, k: tirx.BufferStore(
                    self.left_rows, self._left_source(values, rows, r), [self._left_place(r, k)]
                ),
            )

        if self.b.copies_left == "rows":
            return sequence(loop("r", rows.height, self.index, copy), tiles)
        by_product = self._products(
            block,
            lambda values, k: self._vectors(
                rows.height,
                lambda r: tirx.BufferStore(
                    self.left_rows, self._left_source(values, rows, r), [self._left_place(r, k)]
                ),
            ),
        )
        return sequence(by_product, tiles)

    def _left_place(self, r: Any, k: Any) -> Any:
        return r * self.left_pitch + k if self.b.copies_left == "rows" else k * self.b.tile.rows + r

    def _left_source(self, values: Values, rows: Rows, r: Any) -> Any:
        return rewrite(self.c.left, values | rows.outer | self.c.rows.at(rows.start + r))

    def _tile(self, block: Block, rows: Rows, columns: Columns) -> Any:
        """One register tile: begin, accumulate over a block, store."""
        width = columns.width
        acc = self._buffer(rows.height * width, "acc", "local")

        def place(r: Any, v: Any) -> list[Any]:
            return [r * width + v]

        def every(body: Callable[[Any, Any], Any]) -> Any:
            def row(r: Any) -> Any:
                return self._vectors(width, partial(body, r))

            return loop("r", rows.height, self.index, row, UNROLLED)

        def begin(r: Any, v: Any) -> Any:
            start = tirx.const(0, self.c.dtype)
            if self.partial is not None:
                start = self._partial(rows, columns, r, v)
            return tirx.BufferStore(acc, start, place(r, v))

        def accumulate(values: Values, k: Any) -> Any:
            def product(r: Any, v: Any) -> Any:
                if self.left_rows is None:
                    left = self._left_source(values, rows, r)
                else:
                    left = tirx.BufferLoad(self.left_rows, [self._left_place(r, k)])
                if self.panel is None:
                    right = rewrite(self.c.right, values | self.c.columns.at(columns.start + v))
                else:
                    right = tirx.BufferLoad(self.panel, [columns.slot * self.pitch + k * width + v])
                total = tirx.BufferLoad(acc, place(r, v)) + left * right
                return tirx.BufferStore(acc, total, place(r, v))

            return every(product)

        def end(r: Any, v: Any) -> Any:
            value = tirx.BufferLoad(acc, place(r, v))
            return tirx.BufferStore(self.partial, value, self._partial_place(rows, columns, r, v))

        def finish(r: Any) -> Any:
            return self._epilogue(
                block.values, rows, columns, r, lambda v: tirx.BufferLoad(acc, place(r, v))
            )

        if self.partial is None:
            last = loop("r", rows.height, self.index, finish, UNROLLED)
        else:
            last = every(end)
        return sequence(self._allocate(acc), every(begin), self._products(block, accumulate), last)

    # Sums that are not finished, and those that are.

    def _partial_place(self, rows: Rows, columns: Columns, r: Any, v: Any) -> list[Any]:
        return [(rows.local + r) * self.partial_pitch + columns.slot * self.b.width + v]

    def _partial(self, rows: Rows, columns: Columns, r: Any, v: Any) -> Any:
        return tirx.BufferLoad(self.partial, self._partial_place(rows, columns, r, v))

    def _begin_partial(self, group: Any, rows: Rows) -> Any:
        def clear(columns: Columns, r: Any, v: Any) -> Any:
            zero = tirx.const(0, self.c.dtype)
            return tirx.BufferStore(self.partial, zero, self._partial_place(rows, columns, r, v))

        def tile(columns: Columns) -> Any:
            return loop(
                "r",
                rows.height,
                self.index,
                lambda r: self._vectors(columns.width, partial(clear, columns, r)),
            )

        return self._column_tiles(group, tile)

    def _end_partial(self, batch: Values, group: Any, rows: Rows) -> Any:
        def tile(columns: Columns) -> Any:
            return loop(
                "r",
                rows.height,
                self.index,
                lambda r: self._epilogue(
                    batch, rows, columns, r, partial(self._partial, rows, columns, r)
                ),
            )

        return self._column_tiles(group, tile)

    def _epilogue(
        self, batch: Values, rows: Rows, columns: Columns, r: Any, total: Callable[[Any], Any]
    ) -> Any:
        """Store one row of a tile whose sums ``total`` are finished."""

        def stores(place: list[Any]) -> list[Any]:
            (v,) = place
            at = batch | rows.outer | self.c.rows.at(rows.start + r)
            at |= self.c.columns.at(columns.start + v)
            found = []
            for store in self.c.stores:
                value = rewrite(store.value, at, {self.c.result: lambda _: total(v)})
                indices = [rewrite(i, at) for i in store.indices]
                found.append(tirx.BufferStore(store.buffer, value, indices))
            return found

        return sequence(
            *(
                simultaneously(offset, lanes, self.index, [], stores)
                for offset, lanes in pieces(columns.width, self.b.tile.lanes)
            )
        )

    # Small things.

    def _vectors(self, width: int, body: Callable[[Any], Any]) -> Any:
        cuts = pieces(width, self.b.tile.lanes)
        return sequence(
            *(vector(n, self.index, partial(_shifted, body, offset)) for offset, n in cuts)
        )

    def _all_tiles(self) -> int:
        return self.tiles + bool(self.spare_columns)

    def _at_most(self, size: int, extent: int, first: Any) -> Any:
        """Return ``min(size, extent - first)``, a number where it is one."""
        if extent <= size:
            return extent
        return size if extent % size == 0 else tirx.min(self._int(size), extent - first)

    def _int(self, value: int) -> Any:
        return tirx.const(value, self.index)

    def _buffer(self, size: int, name: str, scope: str = "global") -> Any:
        return tirx.decl_buffer([self._int(size)], self.c.dtype, name, scope=scope)

    def _allocate(self, buffer: Any) -> Any:
        return tirx.AllocBuffer(buffer)


def _shifted(body: Callable[[Any], Any], offset: int, v: Any) -> Any:
    return body(v + offset)

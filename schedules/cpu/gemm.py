"""Everything GEMM-shaped: matrix products, convolutions and their gradients.

    for t in parallel(batch · row chunks · column tiles):
        for ko in reduced blocks:                      # one where the panel fits in cache
            panel[k, n] = right[…]                     # (kc, width): transposed, padded, in cache
            for i in row tiles of the chunk:
                acc[rows, width] = 0                   # registers
                for k in block:
                    for r, v in unrolled: acc[r, v] += left[i + r, k] · panel[k, v]
                out[i + r, v] = epilogue(acc[r, v])    # after the last block

Rows and columns that are left over get tiles of their own, so no loop carries a condition. The
order of every sum depends on the shapes alone, never on the number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod
from typing import Any

from tvm import ir, s_tir, tirx

from pock_tvm.schedules.cpu.contraction import Axes, Contraction, read_contraction
from pock_tvm.schedules.cpu.nest import (
    PARALLEL,
    UNROLLED,
    VECTORIZED,
    loop,
    rewrite,
    sequence,
    unravel,
)
from pock_tvm.schedules.cpu.tiles import RegisterTile, register_tile
from pock_tvm.targets import TargetSpec

Values = dict[Any, Any]

_PARALLEL_WORK = 1 << 17
"""Multiply-adds below which waking threads costs more than it saves."""


def gemm(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule a kernel around one sum of products."""
    sch = s_tir.Schedule(func)
    contraction = read_contraction(sch)
    if contraction is None:
        return None
    nest = _Nest(contraction, spec)
    root = sch.get(sch.get_sblock("root"))
    kept = [b for b in root.alloc_buffers if any(_writes(p, b) for p in contraction.prologues)]
    body = sequence(*contraction.prologues, nest.build())
    block = s_tir.SBlock([], [], [], "root", body, alloc_buffers=kept)
    scheduled = func.with_body(s_tir.SBlockRealize([], tirx.const(1, "bool"), block))
    return s_tir.Schedule(ir.IRModule({"main": scheduled}))


def _writes(statement: Any, buffer: Any) -> bool:
    from pock_tvm.schedules.cpu.nest import find

    return any(s.buffer.same_as(buffer) for s in find(statement, tirx.BufferStore))


@dataclass(frozen=True)
class _Blocks:
    """How the reduced axes are cut: ``outer`` groups whole, ``cut`` in chunks, ``inner`` whole."""

    outer: tuple[Axes, ...]
    cut: Axes | None
    chunk: int
    inner: tuple[Axes, ...]

    @property
    def count(self) -> int:
        """Return the number of blocks."""
        cuts = ceil(self.cut.extent / self.chunk) if self.cut else 1
        return prod(g.extent for g in self.outer) * cuts

    @property
    def length(self) -> int:
        """Return the products in a full block."""
        return (self.chunk if self.cut else 1) * prod(g.extent for g in self.inner)


class _Nest:
    """Builds the loops of one contraction."""

    def __init__(self, contraction: Contraction, spec: TargetSpec) -> None:
        self.c = contraction
        self.spec = spec
        self.index = contraction.index_dtype
        self.tile: RegisterTile = register_tile(
            contraction.rows.extent, contraction.columns.extent, contraction.dtype, spec
        )
        self.itemsize = int(contraction.dtype[-2:]) // 8
        self.blocks = self._cut_reduction()

    # How the work is cut.

    @cached_property
    def width(self) -> int:
        """Return the columns of one panel."""
        return min(self.tile.width, self.c.columns.extent)

    @cached_property
    def row_tiles(self) -> int:
        return self.c.rows.extent // self.tile.rows

    @cached_property
    def spare_rows(self) -> int:
        return self.c.rows.extent % self.tile.rows

    def _cut_reduction(self) -> _Blocks:
        groups = self.c.reduced
        limit = self.spec.l2_bytes // 2 // (self.width * self.itemsize)
        inner = 1
        for i in range(len(groups) - 1, -1, -1):
            extent = groups[i].extent
            if inner * extent > limit:
                count = ceil(extent / max(1, limit // inner))
                return _Blocks(groups[:i], groups[i], ceil(extent / count), groups[i + 1 :])
            inner *= extent
        return _Blocks((), None, 1, groups)

    @cached_property
    def packs(self) -> bool:
        """Tell whether the right operand is copied to a panel before use."""
        if self.c.right_is_transposed:
            return True
        rows = self.c.outer_rows.extent * self.c.rows.extent
        return rows >= 4 * self.tile.rows and self.c.columns.extent > self.width

    @cached_property
    def chunk_rows(self) -> int:
        """Return the rows that one task computes with one panel, before rounding to whole steps."""
        row_bytes = self.blocks.length * self.itemsize
        return max(128, min(1024, self.spec.l2_bytes // 2 // row_bytes))

    # The loops.

    def build(self) -> Any:
        """Return the whole nest."""
        c = self.c
        whole, spare = divmod(c.columns.extent, self.width)
        column_tiles = whole + bool(spare)
        if c.outer_rows.extent > 1:
            units, unit_rows = c.outer_rows.extent, c.rows.extent
        else:
            units, unit_rows = max(1, self.row_tiles), self.tile.rows
        per_chunk = min(units, max(1, self.chunk_rows // unit_rows))
        chunks = ceil(units / per_chunk)
        per_chunk = ceil(units / chunks)
        counts = [c.batch.extent, chunks, column_tiles]

        def task(t: Any) -> Any:
            batch, chunk, tile = unravel(t, counts)
            values = c.batch.at(batch)
            first = chunk * per_chunk
            rest = tirx.min(tirx.const(per_chunk, self.index), units - first)
            size = per_chunk if units % per_chunk == 0 else rest

            def panel(width: int) -> Any:
                return self._panel(values, tile * self.width, width, first, size, per_chunk)

            if not spare:
                return panel(self.width)
            if not whole:
                return panel(spare)
            return tirx.IfThenElse(tile < whole, panel(self.width), panel(spare))

        work = prod(a.extent for a in (c.batch, c.outer_rows, c.rows, c.columns, *c.reduced))
        kind = PARALLEL if work >= _PARALLEL_WORK else tirx.ForKind.SERIAL
        return loop("t", prod(counts), self.index, task, kind)

    def _panel(
        self, values: Values, column: Any, width: int, first: Any, size: Any, most: int
    ) -> Any:
        """All row tiles of one chunk against ``width`` columns from ``column`` on."""
        cuts = self.tile.pieces(width)
        panel = self._buffer((self.blocks.length * width,), "panel") if self.packs else None
        if self.blocks.count == 1:
            steps = self._steps(
                first,
                size,
                lambda rows, height, _: self._tile(
                    values, rows, height, column, width, cuts, panel, {}, None, None
                ),
            )
            return self._with_panel(
                panel, self._pack(values, column, width, cuts, panel, {}, None), steps
            )
        unit = self.c.rows.extent if self.c.outer_rows.extent > 1 else self.tile.rows
        spare = 0 if self.c.outer_rows.extent > 1 else self.spare_rows
        partial = self._buffer(((most * unit + spare) * width,), "partial")
        zero = loop(
            "z",
            most * unit + spare,
            self.index,
            lambda z: self._vectors(
                cuts, lambda v: tirx.BufferStore(partial, self._zero(), [z * width + v])
            ),
        )

        def block(outer: Values, start: Any, size_k: Any) -> Any:
            steps = self._steps(
                first,
                size,
                lambda rows, height, local: self._tile(
                    values,
                    rows,
                    height,
                    column,
                    width,
                    cuts,
                    panel,
                    outer,
                    (start, size_k),
                    (partial, local),
                ),
            )
            return sequence(
                self._pack(values, column, width, cuts, panel, outer, (start, size_k)), steps
            )

        finish = self._steps(
            first,
            size,
            lambda rows, height, local: loop(
                "r",
                height,
                self.index,
                lambda r: self._vectors(
                    cuts,
                    lambda v: self._epilogue(
                        values,
                        rows,
                        r,
                        column + v,
                        tirx.BufferLoad(partial, [(local + r) * width + v]),
                    ),
                ),
            ),
        )
        nest = sequence(tirx.AllocBuffer(partial), zero, self._over_blocks(block), finish)
        return self._with_panel(panel, None, nest)

    def _with_panel(self, panel: Any, *statements: Any) -> Any:
        return sequence(tirx.AllocBuffer(panel) if panel is not None else None, *statements)

    def _over_blocks(self, body: Callable[[Values, Any, Any], Any]) -> Any:
        cut, outer = self.blocks.cut, self.blocks.outer
        assert cut is not None
        count = ceil(cut.extent / self.blocks.chunk)

        def at(k: Any) -> Any:
            parts = unravel(k, [*(g.extent for g in outer), count])
            values: Values = {}
            for group, part in zip(outer, parts[:-1], strict=True):
                values |= group.at(part)
            start = parts[-1] * self.blocks.chunk
            if cut.extent % self.blocks.chunk == 0:
                return body(values, start, self.blocks.chunk)
            size = tirx.min(tirx.const(self.blocks.chunk, self.index), cut.extent - start)
            return body(values, start, size)

        return loop("ko", prod(g.extent for g in outer) * count, self.index, at)

    def _steps(self, first: Any, size: Any, emit: Callable[[Any, int, Any], Any]) -> Any:
        """Row tiles of one chunk; ``emit(position, height, row within the chunk)``."""
        rows, height = self.c.rows, self.tile.rows
        if self.c.outer_rows.extent > 1:

            def one(o: Any) -> Any:
                outer = self.c.outer_rows.at(first + o)
                full = loop(
                    "i",
                    self.row_tiles,
                    self.index,
                    lambda i: emit((outer, i * height), height, o * rows.extent + i * height),
                )
                start = self.row_tiles * height
                at = tirx.const(start, self.index)
                rest = (
                    emit((outer, at), self.spare_rows, o * rows.extent + start)
                    if self.spare_rows
                    else None
                )
                return sequence(full, rest)

            return loop("o", size, self.index, one)
        full = loop(
            "i",
            size,
            self.index,
            lambda i: emit(({}, (first + i) * height), height, i * height),
        )
        if not self.spare_rows:
            return full
        start = self.row_tiles * height
        at = tirx.const(start, self.index)
        spare = emit(({}, at), self.spare_rows, start - first * height)
        last = tirx.EQ(first + size, tirx.const(self.row_tiles, self.index))
        return sequence(full, tirx.IfThenElse(last, spare, None))

    def _over_block(self, outer: Values, part: Any, body: Callable[[Values, Any], Any]) -> Any:
        """Run through the products of one block; ``body(axis values, position in the panel)``."""
        groups = [] if self.blocks.cut is None else [self.blocks.cut]
        groups += self.blocks.inner

        def at(depth: int, values: Values, position: Any) -> Any:
            if depth == len(groups):
                return body(values, position)
            group = groups[depth]
            start, extent = (
                part if depth == 0 and self.blocks.cut is not None else (0, group.extent)
            )
            whole = extent if isinstance(extent, int) else self.blocks.chunk
            del whole
            step = group.extent if not (depth == 0 and self.blocks.cut is not None) else extent
            return loop(
                "k",
                extent,
                self.index,
                lambda k: at(depth + 1, values | group.at(start + k), position * step + k),
            )

        return at(0, dict(outer), tirx.const(0, self.index))

    def _pack(
        self,
        values: Values,
        column: Any,
        width: int,
        cuts: list[tuple[int, int]],
        panel: Any,
        outer: Values,
        part: Any,
    ) -> Any:
        if panel is None:
            return None

        def row(reduced: Values, k: Any) -> Any:
            def copy(v: Any) -> Any:
                source = rewrite(self.c.right, values | reduced | self.c.columns.at(column + v))
                return tirx.BufferStore(panel, source, [k * width + v])

            return self._vectors(cuts, copy)

        return self._over_block(outer, part, row)

    def _tile(
        self,
        values: Values,
        rows: Any,
        height: int,
        column: Any,
        width: int,
        cuts: list[tuple[int, int]],
        panel: Any,
        outer: Values,
        part: Any,
        partial: Any,
    ) -> Any:
        """One register tile: begin, accumulate over a block, store."""
        acc = self._buffer((height * width,), "acc", "local")

        def every(body: Callable[[Any, Any], Any]) -> Any:
            return loop(
                "r",
                height,
                self.index,
                lambda r: self._vectors(cuts, lambda v: body(r, v)),
                UNROLLED,
            )

        def begin(r: Any, v: Any) -> Any:
            value = self._zero()
            if partial is not None:
                value = tirx.BufferLoad(partial[0], [(partial[1] + r) * width + v])
            return tirx.BufferStore(acc, value, [r * width + v])

        def accumulate(reduced: Values, k: Any) -> Any:
            def product(r: Any, v: Any) -> Any:
                at = values | reduced | self._row(rows, r)
                left = rewrite(self.c.left, at)
                if panel is None:
                    right = rewrite(self.c.right, values | reduced | self.c.columns.at(column + v))
                else:
                    right = tirx.BufferLoad(panel, [k * width + v])
                index = [r * width + v]
                return tirx.BufferStore(acc, tirx.BufferLoad(acc, index) + left * right, index)

            return every(product)

        def end(r: Any, v: Any) -> Any:
            value = tirx.BufferLoad(acc, [r * width + v])
            if partial is not None:
                return tirx.BufferStore(partial[0], value, [(partial[1] + r) * width + v])
            return self._epilogue(values, rows, r, column + v, value)

        return sequence(
            tirx.AllocBuffer(acc),
            every(begin),
            self._over_block(outer, part, accumulate),
            every(end),
        )

    def _row(self, rows: Any, r: Any) -> Values:
        outer, start = rows
        return outer | self.c.rows.at(start + r)

    def _epilogue(self, values: Values, rows: Any, r: Any, column: Any, value: Any) -> Any:
        at = values | self._row(rows, r) | self.c.columns.at(column)
        stores = []
        for store in self.c.stores:
            indices = [rewrite(i, at) for i in store.indices]
            out = value
            if store.value is not None:
                out = rewrite(store.value, at, {self.c.result: lambda _: value})
            stores.append(tirx.BufferStore(store.buffer, out, indices))
        return sequence(*stores)

    # Small pieces.

    def _vectors(self, cuts: list[tuple[int, int]], body: Callable[[Any], Any]) -> Any:
        return sequence(
            *(
                loop("v", lanes, self.index, lambda v, o=offset: body(v + o), VECTORIZED)
                for offset, lanes in cuts
            )
        )

    def _buffer(self, shape: tuple[int, ...], name: str, scope: str = "global") -> Any:
        extents = [tirx.const(s, self.index) for s in shape]
        return tirx.decl_buffer(extents, self.c.dtype, name, scope=scope)

    def _zero(self) -> Any:
        return tirx.const(0, self.c.dtype)

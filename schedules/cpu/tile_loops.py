"""The loops over the tiles of a contraction, each calling back with where it stands."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tvm import ir, tirx

from pock_tvm.schedules.cpu.blocking import Blocking, Sum
from pock_tvm.schedules.cpu.contraction import Contraction
from pock_tvm.schedules.cpu.nest import find, loop, rewrite, sequence, unravel

Values = dict[Any, Any]


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
    chunk: Any
    """Number of the chunk."""


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


class TileLoops:
    """Loops over row tiles, column tiles and products."""

    def __init__(self, contraction: Contraction, blocking: Blocking) -> None:
        self.c = contraction
        self.b = blocking
        self.index = contraction.index_dtype
        self.row_tiles, self.spare_rows = divmod(contraction.rows.extent, blocking.tile.rows)
        self.tiles, self.spare_columns = divmod(contraction.columns.extent, blocking.width)

    def along_left(self, block: Block) -> tuple["TileLoops", Block]:
        """Return loops that run through reduced axes as one where the left operand allows it.

        They are for bodies that find the right operand by the number of a product.
        """
        sums = self.b.sum
        groups = sums.inner if sums.cut is None else (sums.cut, *sums.inner)
        joined = self.c.joined(groups)
        if len(joined) == len(groups) or self.c.guard is not None:
            return self, block
        if sums.cut is None:
            along, factor = Sum(sums.outer, None, 1, joined), 1
        else:
            factor = joined[0].extent // sums.cut.extent
            along = Sum(sums.outer, joined[0], sums.chunk * factor, joined[1:])
        contraction = replace(self.c, reduced=(*sums.outer, *joined))
        loops = TileLoops(contraction, replace(self.b, sum=along))
        return loops, Block(block.values, block.start * factor, block.size * factor)

    @property
    def all_tiles(self) -> int:
        """Return the number of column tiles, the narrow one included."""
        return self.tiles + bool(self.spare_columns)

    @property
    def chunk_rows(self) -> int:
        """Return the most rows in a chunk."""
        if self.c.outer_rows.extent > 1:
            return self.b.chunk * self.c.rows.extent
        return self.b.chunk * self.b.tile.rows + self.spare_rows

    def number(self, value: int) -> Any:
        """Return a constant index."""
        return tirx.const(value, self.index)

    def blocks(self, batch: Values, body: Callable[[Block], Any], part: Any = None) -> Any:
        """Run through the blocks of the sum, or through those of one part."""
        cut, size = self.b.sum.cut, self.b.sum.chunk
        if cut is None:
            return body(Block(batch, 0, 1))

        def at(ko: Any) -> Any:
            counts = [*(g.extent for g in self.b.sum.outer), self.b.sum.cuts]
            *outer, last = unravel(ko, counts)
            values = dict(batch)
            for group, position in zip(self.b.sum.outer, outer, strict=True):
                values |= group.at(position)
            return body(Block(values, last * size, self._at_most(size, cut.extent, last * size)))

        if part is None:
            return loop("ko", self.b.sum.blocks, self.index, at)
        size_of_part = -(-self.b.sum.blocks // self.b.parts)
        first = part * size_of_part
        count = self._at_most(size_of_part, self.b.sum.blocks, first)
        return loop("ko", count, self.index, lambda ko: at(first + ko))

    def row_tiles_of(self, first: Any, body: Callable[[Rows], Any]) -> Any:
        """Run through the row tiles of the chunk that begins at unit ``first``."""
        height, extent = self.b.tile.rows, self.c.rows.extent
        units = self._at_most(self.b.chunk, self.b.units, first)
        done = self.row_tiles * height
        chunk = first // self.b.chunk

        def outer(o: Any) -> Any:
            at = self.c.outer_rows.at(first + o)
            full = loop(
                "i",
                self.row_tiles,
                self.index,
                lambda i: body(Rows(at, i * height, height, o * extent + i * height, chunk)),
            )
            spare = Rows(at, self.number(done), self.spare_rows, o * extent + done, chunk)
            return sequence(full, body(spare) if self.spare_rows else None)

        if self.c.outer_rows.extent > 1:
            return loop("o", units, self.index, outer)
        full = loop(
            "i",
            units,
            self.index,
            lambda i: body(Rows({}, (first + i) * height, height, i * height, chunk)),
        )
        if not self.spare_rows:
            return full
        spare = body(Rows({}, self.number(done), self.spare_rows, done - first * height, chunk))
        if self.b.chunk >= self.b.units:
            return sequence(full, spare)
        return sequence(full, tirx.IfThenElse(first + units >= self.row_tiles, spare, None))

    def column_tiles_of(self, group: Any, body: Callable[[Columns], Any]) -> Any:
        """Run through the column tiles of a group."""
        width, first = self.b.width, group * self.b.group
        one_group = self.all_tiles <= self.b.group
        count = self._at_most(self.b.group, self.tiles, first)
        if self.spare_columns and not one_group:  # the last group may hold the narrow tile alone
            count = tirx.min(self.number(self.b.group), self.tiles - first)
        full = loop("j", count, self.index, lambda j: body(Columns((first + j) * width, width, j)))
        if not self.spare_columns:
            return full
        start = self.number(self.tiles * width)
        spare = body(Columns(start, self.spare_columns, self.tiles - first))
        if one_group:
            return sequence(full, spare)
        return sequence(full, tirx.IfThenElse(first + self.b.group > self.tiles, spare, None))

    def every_column_tile(self, kind: Any, body: Callable[[Columns], Any]) -> Any:
        """Run through all column tiles."""
        width = self.b.width
        full = loop("j", self.tiles, self.index, lambda j: body(Columns(j * width, width, j)), kind)
        start = self.number(self.tiles * width)
        spare = Columns(start, self.spare_columns, self.tiles)
        return sequence(full, body(spare) if self.spare_columns else None)

    def products_of(self, block: Block, body: Callable[[Values, Any], Any]) -> Any:
        """Run through a block of the sum: ``body(axis values, number of the product)``."""
        return self.product_runs_of(block, 1, lambda values, k, _: body(values, k))

    def product_runs_of(
        self, block: Block, run: int, body: Callable[[Values, Any, int], Any]
    ) -> Any:
        """Run through a block, ``run`` neighbours along the last axis at a time, then one by one.

        ``body(values of the first of them, its number, how many)``.
        """
        cut = self.b.sum.cut
        groups = self.b.sum.inner if cut is None else (cut, *self.b.sum.inner)

        def at(depth: int, values: Values, number: Any) -> Any:
            if depth == len(groups):
                return guarded(depth, values, body(values, number, 1))
            group = groups[depth]
            in_cut = depth == 0 and cut is not None
            start, size = (block.start, block.size) if in_cut else (0, group.extent)

            def step(k: Any, count: int) -> Any:
                here = values | group.at(start + k)
                if count > 1:
                    return guarded(depth + 1, here, body(here, number * size + k, count))
                return at(depth + 1, here, number * size + k)

            if depth < len(groups) - 1 or run == 1:
                return guarded(depth, values, loop("k", size, self.index, lambda k: step(k, 1)))
            runs = size // run
            whole = loop("k", runs, self.index, lambda k: step(k * run, run))
            rest = size - runs * run
            if isinstance(rest, int) and rest == 0:
                return guarded(depth, values, whole)
            tail = loop("k", rest, self.index, lambda k: step(runs * run + k, 1))
            return guarded(depth, values, sequence(whole, tail))

        def guarded(depth: int, values: Values, statement: Any) -> Any:
            if self.c.guard is None or depth != self._guard_depth(groups):
                return statement
            return tirx.IfThenElse(rewrite(self.c.guard, values), statement, None)

        return at(0, block.values, self.number(0))

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

    def _at_most(self, size: int, extent: int, first: Any) -> Any:
        """Return ``min(size, extent - first)``, a number where it is one."""
        if extent <= size:
            return extent
        return size if extent % size == 0 else tirx.min(self.number(size), extent - first)

"""Where a register tile reads its operands: a panel, a copy of its rows, or memory itself."""

from functools import partial
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import UNROLLED, loop, rewrite, sequence
from pock_tvm.schedules.cpu.prefetch import products_with_prefetch
from pock_tvm.schedules.cpu.tile_loops import Block, Columns, Rows, TileLoops, Values
from pock_tvm.schedules.cpu.tiles import SQUARE
from pock_tvm.schedules.cpu.transpose import transpose
from pock_tvm.schedules.cpu.vectors import cut_vectors, pieces


class Operands:
    """The operands of a contraction, as its tiles see them."""

    def __init__(self, loops: TileLoops) -> None:
        self.loops = loops
        self.c, self.b, self.index = loops.c, loops.b, loops.index
        self.pitch = self.b.sum.length * self.b.width
        self.panel = self._buffer(self.b.group * self.pitch, "panel") if self.b.packs else None
        # 16 elements more, so that the rows of a copied tile fall into different cache sets.
        self.left_pitch = self.b.sum.length + 16
        self.left_rows = None
        if self.b.copies_left:
            self.left_rows = self._buffer(self.b.tile.rows * self.left_pitch, "left_rows")

    # The right operand.

    def _right(self, values: Values, k: Any, columns: Columns, v: Any) -> Any:
        """Return element ``v`` of product ``k`` in a column tile."""
        if self.panel is None:
            return self._right_source(values, columns, v)
        return tirx.BufferLoad(self.panel, [columns.slot * self.pitch + k * columns.width + v])

    def pack(self, block: Block, group: Any) -> Any:
        """Fill the panel of a group."""
        if self.c.right_is_transposed:
            return self.loops.column_tiles_of(group, partial(self._pack_transposed, block))

        def row(values: Values, k: Any) -> Any:
            return self.loops.column_tiles_of(group, partial(self._pack_row, values, k))

        return self.loops.products_of(block, row)

    def pack_all(self, kind: Any) -> Any:
        """Fill the panel of all columns."""
        block = Block({}, 0, 1)
        if self.c.right_is_transposed:
            return self.loops.every_column_tile(kind, partial(self._pack_transposed, block))

        def tile(columns: Columns) -> Any:
            return self.loops.products_of(
                block, lambda values, k: self._pack_row(values, k, columns)
            )

        return self.loops.every_column_tile(kind, tile)

    def _pack_row(self, values: Values, k: Any, columns: Columns) -> Any:
        def copy(v: Any) -> Any:
            place = columns.slot * self.pitch + k * columns.width + v
            return tirx.BufferStore(self.panel, self._right_source(values, columns, v), [place])

        return self._vectors(columns.width, copy)

    def _pack_transposed(self, block: Block, columns: Columns) -> Any:
        def squares(values: Values, k: Any, count: int) -> Any:
            if count == 1:
                return self._pack_row(values, k, columns)
            cuts = pieces(columns.width, SQUARE)
            whole = [offset for offset, lanes in cuts if lanes == SQUARE]
            rest = len(whole) * SQUARE

            def spare(v: Any) -> Any:
                def element(i: Any) -> Any:
                    place = columns.slot * self.pitch + (k + i) * columns.width + rest + v
                    source = self._along_sum(values, columns, rest + v, i)
                    return tirx.BufferStore(self.panel, source, [place])

                return loop("k", SQUARE, self.index, element)

            remaining = columns.width - rest
            return sequence(
                *(self._square(values, k, columns, offset) for offset in whole),
                loop("v", remaining, self.index, spare) if remaining else None,
            )

        return self.loops.product_runs_of(block, SQUARE, squares)

    def _square(self, values: Values, k: Any, columns: Columns, offset: int) -> Any:
        lanes = tirx.Ramp(self.loops.number(0), self.loops.number(1), SQUARE)

        def load(row: int) -> Any:
            return self._along_sum(values, columns, offset + row, lanes)

        def store(row: int, value: Any) -> Any:
            place = columns.slot * self.pitch + (k + row) * columns.width + offset
            run = tirx.Ramp(place, self.loops.number(1), SQUARE)
            return tirx.BufferStore(self.panel, value, [run])

        return transpose(SQUARE, self.c.dtype, self.index, load, store)

    def _along_sum(self, values: Values, columns: Columns, v: Any, step: Any) -> Any:
        """Return the right operand ``step`` products further along the last reduced axis.

        The axis is the last index of the load: it is contiguous.
        """
        load = self._right_source(values, columns, v)
        *outer, last = load.indices
        if isinstance(step, tirx.Ramp):
            return tirx.BufferLoad(load.source, [*outer, tirx.Ramp(last, step.stride, step.lanes)])
        return tirx.BufferLoad(load.source, [*outer, last + step])

    def _right_source(self, values: Values, columns: Columns, v: Any) -> Any:
        return rewrite(self.c.right, values | self.c.columns.at(columns.start + v))

    # The left operand.

    def _left(self, values: Values, k: Any, rows: Rows, r: Any) -> Any:
        """Return product ``k`` of row ``r`` in a row tile."""
        if self.left_rows is None:
            return self._left_source(values, rows, r)
        return tirx.BufferLoad(self.left_rows, [self._left_place(r, k)])

    def copy_left(self, block: Block, rows: Rows) -> Any:
        """Copy the rows of a tile, if they are to be copied."""
        if self.left_rows is None:
            return None

        def element(r: Any, values: Values, k: Any) -> Any:
            source = self._left_source(values, rows, r)
            return tirx.BufferStore(self.left_rows, source, [self._left_place(r, k)])

        if self.b.copies_left == "rows":
            return loop(
                "r",
                rows.height,
                self.index,
                lambda r: self.loops.products_of(block, partial(element, r)),
            )
        return self.loops.products_of(
            block,
            lambda values, k: self._vectors(rows.height, lambda r: element(r, values, k)),
        )

    def _left_place(self, r: Any, k: Any) -> Any:
        if self.b.copies_left == "rows":
            return r * self.left_pitch + k
        return k * self.b.tile.rows + r

    def _left_source(self, values: Values, rows: Rows, r: Any) -> Any:
        return rewrite(self.c.left, values | rows.outer | self.c.rows.at(rows.start + r))

    # Their product.

    def padded(self, width: int) -> int:
        """Return how many columns a tile of ``width`` has among the accumulators."""
        return width

    def multiply(self, block: Block, rows: Rows, columns: Columns, acc: Any) -> Any:
        """Add the products of a block to ``acc``."""

        def at(values: Values, k: Any) -> Any:
            def row(r: Any) -> Any:
                return self._vectors(columns.width, partial(product, r))

            def product(r: Any, v: Any) -> Any:
                place = [r * columns.width + v]
                total = tirx.BufferLoad(acc, place)
                products = self._left(values, k, rows, r) * self._right(values, k, columns, v)
                return tirx.BufferStore(acc, total + products, place)

            return loop("r", rows.height, self.index, row, UNROLLED)

        loops = self.loops
        if self.panel is not None:
            loops, block = loops.along_left(block)
        if self.b.prefetches:
            return products_with_prefetch(loops, block, rows, columns, at)
        return loops.products_of(block, at)

    # Small things.

    def _vectors(self, width: int, body: Any) -> Any:
        return cut_vectors(width, self.b.tile.lanes, self.index, body)

    def _buffer(self, size: int, name: str) -> Any:
        return tirx.decl_buffer([self.loops.number(size)], self.c.dtype, name)

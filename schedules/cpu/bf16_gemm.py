"""Products of bfloat16 numbers, summed in float32, in the loops of ``gemm``.

    panel[j, p, v] = pair(right[2p, …], right[2p + 1, …])        # rounded while it is packed
    for i in row tiles:
        left_rows[r, p] = pair(left[i + r, 2p], left[i + r, 2p + 1])
        for j in column tiles:
            for p in pairs of the block:
                for r, v in unrolled: acc[r, v] = dot(acc[r, v], left_rows[r, p], panel[j, p, v])

Both operands are rounded where they are copied anyway, so tensors stay float32 in memory. Tiles are
whole vectors wide: what a narrow one has too many stays zero. A product that does too little with
an operand to pay for its copy stays in float32.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

from tvm import ir, tirx

from pock_tvm.schedules.cpu.bf16_functions import BF16Functions
from pock_tvm.schedules.cpu.blocking import block
from pock_tvm.schedules.cpu.contraction import Axes, Contraction, strides
from pock_tvm.schedules.cpu.gemm_nest import Nest
from pock_tvm.schedules.cpu.nest import loop, rewrite, sequence
from pock_tvm.schedules.cpu.tile_loops import Block, Columns, Rows, TileLoops, Values
from pock_tvm.schedules.cpu.transpose import transpose
from pock_tvm.schedules.cpu.vectors import cut_vectors
from pock_tvm.targets import TargetSpec

_LEAST = 32
"""Rows, columns and products below which packing costs more than faster products save."""

_PAIR_BYTES = 2
"""Bytes of one element of a panel."""


def bf16_nest(c: Contraction, spec: TargetSpec) -> Any:
    """Return the loops of a contraction in bfloat16; None where it stays as precise as it is."""
    if spec.precision != "bf16" or c.dtype != "float32" or c.guard is not None:
        return None
    rows = c.rows.extent * c.outer_rows.extent
    if len(c.reduced) != 1 or min(rows, c.columns.extent, c.reduced[0].extent) < _LEAST:
        return None
    left = _side(c.left, c.rows, c.reduced[0])
    right = _side(c.right, c.columns, c.reduced[0])
    if left is None or right is None or block(c, spec).parts > 1:
        return None
    functions = BF16Functions(spec)
    blocking = block(c, spec, packed_bytes=_PAIR_BYTES)
    run = 2 * functions.lanes
    chunk = ceil(blocking.sum.chunk / run) * run
    blocking = replace(blocking, sum=replace(blocking.sum, chunk=chunk), copies_left="rows")
    loops = TileLoops(c, blocking)
    return functions.around(Nest(PairOperands(loops, functions, left, right)).build())


def _side(operand: Any, across: Axes, along: Axes) -> str | None:
    """Tell which way an operand is read: "along" the sum or "across" it; None for neither."""
    if not across.members:
        return None
    walk = strides(operand, [across.members[-1], along.members[-1]])
    if not walk:
        return None
    way = "along" if all(step in (0, 1) for _, step in walk) else "across"
    axes = along if way == "along" else across
    # What is computed on the way is so for one index at a time.
    return way if isinstance(operand, ir.TensorLoad) or len(axes.members) == 1 else None


class PairOperands:
    """The operands of a contraction as pairs of bfloat16 numbers."""

    def __init__(
        self, loops: TileLoops, functions: BF16Functions, left_side: str, right_side: str
    ) -> None:
        self.loops, self.functions = loops, functions
        self.left_side, self.right_side = left_side, right_side
        self.c, self.b, self.index = loops.c, loops.b, loops.index
        self.lanes = functions.lanes
        self.pairs = ceil(self.b.sum.length / 2)
        self.pitch = self._round_up(self.pairs) * self.padded(self.b.width)
        self.panel = self._buffer(self.b.group * self.pitch, "int32", "panel")
        # Some more, so that the last store of a row may be a whole vector, and so that the rows
        # fall into different cache sets.
        self.left_pitch = self._round_up(self.pairs) + 16
        self.left_rows = self._buffer(self.b.tile.rows * self.left_pitch, "int32", "left_rows")

    def padded(self, width: int) -> int:
        """Return how many columns a tile of ``width`` has among the accumulators."""
        return self._round_up(width)

    def multiply(self, block: Block, rows: Rows, columns: Columns, acc: Any) -> Any:
        """Add the products of a block to ``acc``."""
        width, lanes = self.padded(columns.width), self.lanes

        def products(p: Any) -> Any:
            steps = []
            for r in range(rows.height):
                left = tirx.BufferLoad(self.left_rows, [self._left_place(r, p)])
                for v in range(0, width, lanes):
                    total = self._run(self.loops.number(r * width + v))
                    right = self._run(columns.slot * self.pitch + p * width + v)
                    value = self.functions.dot(
                        tirx.BufferLoad(acc, [total]),
                        tirx.Broadcast(left, lanes),
                        tirx.BufferLoad(self.panel, [right]),
                    )
                    steps.append(tirx.BufferStore(acc, value, [total]))
            return sequence(*steps)

        _, size = self._extent(block)
        return loop("p", (size + 1) // 2, self.index, products)

    # The right operand.

    def pack(self, block: Block, group: Any) -> Any:
        """Fill the panel of a group."""
        return self._sized(
            block,
            lambda start, size: self._pack(
                block.values, start, size, partial(self.loops.column_tiles_of, group)
            ),
        )

    def pack_all(self, kind: Any) -> Any:
        """Fill the panel of all columns."""
        size = self.c.reduced[0].extent
        tile = partial(self._pack_tile, {}, self.loops.number(0), size)
        return self.loops.every_column_tile(kind, tile)

    def _pack(self, values: Values, start: Any, size: int, tiles: Callable[[Any], Any]) -> Any:
        if self.right_side == "along":
            return tiles(partial(self._pack_tile, values, start, size))

        def pair(p: Any, count: int) -> Any:
            return tiles(partial(self._pack_pair, values, start, p, count))

        return self._pairs_of(size, pair)

    def _pack_tile(self, values: Values, start: Any, size: int, columns: Columns) -> Any:
        if self.right_side == "along":
            return self._transposed(values, start, size, columns)
        return self._pairs_of(
            size, lambda p, count: self._pack_pair(values, start, p, count, columns)
        )

    def _pack_pair(self, values: Values, start: Any, p: Any, count: int, columns: Columns) -> Any:
        """Pack two neighbouring products of a tile's columns, or the last one and zeros."""
        width = self.padded(columns.width)

        def element(at: Values, v: Any) -> Any:
            return rewrite(self.c.right, at | self.c.columns.at(columns.start + v))

        def store(v: int, value: Any) -> Any:
            place = columns.slot * self.pitch + p * width + v
            return tirx.BufferStore(self.panel, value, [self._run(place)])

        return self._zipped(values, start, p, count, columns.width, element, store)

    def _transposed(self, values: Values, start: Any, size: int, columns: Columns) -> Any:
        """Pack a tile of a right operand that is contiguous along the sum, square by square."""
        firsts = range(0, self.padded(columns.width), self.lanes)

        def squares(k: Any, count: int) -> Any:
            return sequence(*(self._square(values, start, k, count, columns, v) for v in firsts))

        return self._runs_of(size, squares)

    def _square(
        self, values: Values, start: Any, k: Any, count: int, columns: Columns, first: int
    ) -> Any:
        """Pack ``count`` products, from the k-th on, of a vector of columns."""
        lanes, width = self.lanes, self.padded(columns.width)
        square = self._buffer(lanes * lanes, "int32", "square", "local")
        rows = [self._run(self.loops.number(row * lanes)) for row in range(lanes)]

        def column(row: int) -> Any:
            def element(i: Any) -> Any:
                at = values | self.c.reduced[0].at(start + k + i)
                return rewrite(self.c.right, at | self.c.columns.at(columns.start + first + row))

            def keep(value: Any) -> Any:
                return tirx.BufferStore(square, value, [rows[row]])

            if first + row < columns.width:
                return self._paired(count, element, keep)
            return keep(tirx.Broadcast(tirx.const(0, "int32"), lanes))

        def load(row: int) -> Any:
            return tirx.BufferLoad(square, [rows[row]])

        def store(row: int, value: Any) -> Any:
            place = columns.slot * self.pitch + (k // 2 + row) * width + first
            return tirx.BufferStore(self.panel, value, [self._run(place)])

        return sequence(
            tirx.AllocBuffer(square),
            *(column(row) for row in range(lanes)),
            transpose(lanes, "int32", self.index, load, store),
        )

    # The left operand.

    def copy_left(self, block: Block, rows: Rows) -> Any:
        """Copy the rows of a tile."""
        return self._sized(
            block, lambda start, size: self._copy_left(block.values | rows.outer, start, size, rows)
        )

    def _copy_left(self, values: Values, start: Any, size: int, rows: Rows) -> Any:
        def source(at: Values, r: Any) -> Any:
            return rewrite(self.c.left, at | self.c.rows.at(rows.start + r))

        if self.left_side == "along":

            def row(r: Any) -> Any:
                def run(k: Any, count: int) -> Any:
                    place = self._run(self._left_place(r, k // 2))
                    return self._paired(
                        count,
                        lambda i: source(values | self.c.reduced[0].at(start + k + i), r),
                        lambda value: tirx.BufferStore(self.left_rows, value, [place]),
                    )

                return self._runs_of(size, run)

            return loop("r", rows.height, self.index, row)

        def pair(p: Any, count: int) -> Any:
            def store(r: int, value: Any) -> Any:
                place = self._left_place(r, p)
                return tirx.BufferStore(self.left_rows, value, [self._run(place)])

            return self._zipped(values, start, p, count, rows.height, source, store)

        return self._pairs_of(size, pair)

    def _left_place(self, r: Any, p: Any) -> Any:
        if self.left_side == "along":
            return r * self.left_pitch + p
        return p * self.b.tile.rows + r

    # Vectors of pairs.

    def _paired(self, count: int, element: Callable[[Any], Any], store: Any) -> Any:
        """Store ``count`` floats, up to two vectors of them and zeros, as one vector of pairs."""
        lanes = self.lanes
        floats = self._buffer(2 * lanes, "float32", "floats", "local")
        return sequence(
            tirx.AllocBuffer(floats),
            *self._fill(floats, 0, count, 2 * lanes, element),
            store(self.functions.pairs(*self._halves(floats))),
        )

    def _zipped(
        self,
        values: Values,
        start: Any,
        p: Any,
        count: int,
        width: int,
        element: Callable[[Values, Any], Any],
        store: Callable[[int, Any], Any],
    ) -> Any:
        """Store pairs of products 2p and 2p + 1 (zeros, if ``count`` is 1) for ``width`` elements.

        They are the neighbours ``element(values, v)`` of both products.
        """
        steps, lanes = [], self.lanes
        for v in range(0, width, lanes):
            floats = self._buffer(2 * lanes, "float32", "floats", "local")
            steps.append(tirx.AllocBuffer(floats))
            used = min(lanes, width - v)
            for half in range(2):
                at = values | self.c.reduced[0].at(start + 2 * p + half)

                def one(i: Any, at: Values = at, v: int = v) -> Any:
                    return element(at, v + i)

                present = used if half < count else 0
                steps += self._fill(floats, half * lanes, present, lanes, one)
            steps.append(store(v, self.functions.zip(*self._halves(floats))))
        return sequence(*steps)

    def _halves(self, floats: Any) -> list[Any]:
        return [tirx.BufferLoad(floats, [self._run(self.loops.number(h))]) for h in (0, self.lanes)]

    def _fill(
        self, floats: Any, first: int, count: int, size: int, element: Callable[[Any], Any]
    ) -> list[Any]:
        """Store ``count`` elements from ``first`` on, and zeros up to ``size``."""

        def put(i: Any) -> Any:
            return tirx.BufferStore(floats, element(i), [first + i])

        def clear(i: Any) -> Any:
            return tirx.BufferStore(floats, tirx.const(0, "float32"), [first + i])

        cleared = cut_vectors(size, self.lanes, self.index, clear) if count < size else None
        stored = cut_vectors(count, self.lanes, self.index, put) if count else None
        return [s for s in (cleared, stored) if s is not None]

    # The products of a block.

    def _extent(self, block: Block) -> tuple[Any, Any]:
        """Return the first product of a block, and how many there are."""
        if self.b.sum.cut is None:
            return self.loops.number(0), self.c.reduced[0].extent
        return block.start, block.size

    def _sized(self, block: Block, body: Callable[[Any, int], Any]) -> Any:
        """Run ``body(first product, number of products)``, the number one that is known."""
        cut = self.b.sum.cut
        start, size = self._extent(block)
        if cut is None or isinstance(size, int):
            return body(start, size)
        full = self.b.sum.chunk
        rest = cut.extent - (self.b.sum.cuts - 1) * full
        return tirx.IfThenElse(start + full <= cut.extent, body(start, full), body(start, rest))

    def _runs_of(self, size: int, body: Callable[[Any, int], Any]) -> Any:
        """Run through products two vectors at a time: ``body(first, how many)``."""
        run = 2 * self.lanes
        runs, rest = divmod(size, run)
        return sequence(
            loop("k", runs, self.index, lambda k: body(k * run, run)) if runs else None,
            body(self.loops.number(runs * run), rest) if rest else None,
        )

    def _pairs_of(self, size: int, body: Callable[[Any, int], Any]) -> Any:
        """Run through pairs of products: ``body(pair, how many)``, one in an odd last pair."""
        return sequence(
            loop("p", size // 2, self.index, lambda p: body(p, 2)),
            body(self.loops.number(size // 2), 1) if size % 2 else None,
        )

    # Small things.

    def _run(self, start: Any) -> Any:
        return tirx.Ramp(start, self.loops.number(1), self.lanes)

    def _round_up(self, count: int) -> int:
        return ceil(count / self.lanes) * self.lanes

    def _buffer(self, size: int, dtype: str, name: str, scope: str = "global") -> Any:
        return tirx.decl_buffer([self.loops.number(size)], dtype, name, scope=scope)

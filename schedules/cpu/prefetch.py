"""Ask for memory ahead of time: for the next panel, and for what an epilogue reads.

    for ko in blocks of the sum:
        panel = …
        for i in row tiles, j in column tiles:
            for bursts of the block:
                prefetch a few rows of what the next panel is packed from
                for k in burst: acc[…] += …

A large matrix is packed once for every 128 rows or so of the other one, and packing waits for
memory: a column tile's rows are short and far apart, so that no hardware prefetcher follows. All
tiles of a panel together ask for all of the next one, each for its share, in bursts that a core
can have under way at once. Gains on Zen 5, one core, float32, weights in memory (GFLOP/s):
128x768x3072 183 -> 214, its transposed form 178 -> 202, 256x768x3072 197 -> 239. Bursts every 16
products lose (a short loop's end is mispredicted), every 256 gain less. Where few tiles share a
panel bursts are closer, for each asks for more. A weight that is stored as panels (see
``stored_panels``) is asked for in the same way, one panel ahead.

The weight that a weight gradient updates is asked for when the tile's sum begins: a tile reads and
writes a few short pieces of rows that are far apart. The weight gradient of a 3x3 convolution 512
to 512 at 7² goes from 96 to 143 GFLOP/s, that of a 1x1 convolution 320 to 1280 from 80 to 110, that
of a linear layer 768 to 3072, 128 rows, from 167 to 202. One tile earlier gains no more.
"""

from collections.abc import Callable
from math import ceil, prod
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import loop, rewrite, sequence, unravel
from pock_tvm.schedules.cpu.tile_loops import Block, Columns, Rows, TileLoops, Values

_BURST = 128
"""Products between two bursts."""

_LEAST_BURST = 32
"""Products between two bursts where few tiles share the next panel."""

_LINES = 16
"""Cache lines that a core can have under way."""

_LINE_BYTES = 64


def products_with_prefetch(
    loops: TileLoops, block: Block, rows: Rows, columns: Columns, body: Callable[[Values, Any], Any]
) -> Any:
    """Run ``body(axis values, number of the product)`` through a block, prefetching on the way."""
    b, last = loops.b, loops.c.reduced[-1]
    lines = ceil(columns.width * int(loops.c.dtype[-2:]) / 8 / _LINE_BYTES)
    is_cut = b.sum.cut is not None and not b.sum.inner
    along = b.sum.chunk if is_cut else last.extent
    burst = min(_BURST, along)
    while burst > _LEAST_BURST and burst * lines > _LINES * _row_tiles(loops):
        burst //= 2
    bursts = b.sum.length // along * (along // burst)
    share = ceil(b.sum.length / (_row_tiles(loops) * bursts))

    def run(values: Values, k: Any, count: int) -> Any:
        if count == 1:
            return body(values, k)

        begin = last.index(values)

        def step(d: Any) -> Any:
            return body(values | last.at(begin + d), k + d)

        done = k // burst if is_cut else k // along * (along // burst) + k % along // burst
        first = (_row_tile(loops, rows) * bursts + done) * share
        wanted = _lines(loops, block, columns, [first + e for e in range(share)])
        return sequence(*wanted, loop("k", burst, loops.index, step))

    return loops.product_runs_of(block, burst, run)


def prefetch_epilogue(loops: TileLoops, block: Block, rows: Rows, columns: Columns) -> Any:
    """Ask for what the epilogue of a tile reads at its place, and for where it writes."""
    c, elements = loops.c, _LINE_BYTES * 8 // int(loops.c.dtype[-2:])

    def row(r: Any) -> Any:
        found = []
        for v in range(0, columns.width, elements):
            at = block.values | rows.outer | c.rows.at(rows.start + r)
            at |= c.columns.at(columns.start + v)
            for store in c.stores:
                place = tirx.BufferLoad(store.buffer, list(store.indices))
                found += [_prefetch(rewrite(load, at)) for load in (*store.reads(c), place)]
        return sequence(*found)

    return loop("r", rows.height, loops.index, row, tirx.ForKind.UNROLLED)


def _row_tiles(loops: TileLoops) -> int:
    """Return the number of row tiles in a task."""
    if loops.c.outer_rows.extent > 1:
        return loops.b.chunk * ceil(loops.c.rows.extent / loops.b.tile.rows)
    return loops.b.chunk


def _row_tile(loops: TileLoops, rows: Rows) -> Any:
    """Return the number of a row tile within its task."""
    height, extent = loops.b.tile.rows, loops.c.rows.extent
    if loops.c.outer_rows.extent > 1:
        return rows.local // extent * ceil(extent / height) + rows.local % extent // height
    return rows.local // height


def _lines(loops: TileLoops, block: Block, columns: Columns, numbers: list[Any]) -> list[Any]:
    """Prefetch rows of the next panel's tile: as many bytes of the matrix that it comes from."""
    c, b = loops.c, loops.b
    products = prod(g.extent for g in c.reduced)
    following = _following(loops, block)
    start: Any = loops.number(0)
    column = columns.start + b.group * b.width
    if not b.packs:  # panels lie one behind the other: what follows upon this block is the next
        start, column = (following if b.sum.blocks > 1 else loops.number(products)), columns.start
    elif b.sum.blocks > 1:
        is_last = following >= products
        start = tirx.Select(is_last, start, following)
        column = tirx.Select(is_last, column, columns.start)
    column = tirx.min(column, loops.number(c.columns.extent - columns.width))
    elements = _LINE_BYTES * 8 // int(c.dtype[-2:])
    lines = ceil(columns.width / elements)
    found = []
    for number in numbers:
        for line in range(lines):
            if c.right_is_transposed:  # a line holds products of one column, not columns
                product, v = number // elements * elements, number % elements * lines + line
            else:
                product, v = number, line * elements
            at = start + product
            if b.packs:
                at = tirx.min(at, loops.number(products - 1))
            values = dict(block.values)
            places = unravel(at, [g.extent for g in c.reduced])
            for group, place in zip(c.reduced, places, strict=True):
                values |= group.at(place)
            found.append(_prefetch(rewrite(c.right, values | c.columns.at(column + v))))
    return found


def _following(loops: TileLoops, block: Block) -> Any:
    """Return the number of the first product after a block."""
    cut, place = loops.b.sum.cut, loops.number(0)
    for group in loops.b.sum.outer:
        place = place * group.extent + group.index(block.values)
    if cut is not None:
        place = place * cut.extent + block.start + block.size
    return place * prod(g.extent for g in loops.b.sum.inner)


def _prefetch(load: Any) -> Any:
    """Ask for the line that holds an element; an address outside of memory is harmless."""
    element = tirx.BufferLoad(load.source, list(load.indices))
    for_reading, in_all_caches, data = (tirx.const(n, "int32") for n in (0, 3, 1))
    return tirx.Evaluate(
        tirx.call_intrin(
            "void", "tirx.prefetch", tirx.address_of(element), for_reading, in_all_caches, data
        )
    )

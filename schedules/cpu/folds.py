"""Sums over the rows of a contraction's result, taken while its tiles are stored.

    sums[chunk, column] = 0
    for t in parallel(chunks of rows · …): … sums[chunk, column] += value(total)
    out[column] = sums[0, column] + sums[1, column] + …

Each chunk of rows adds up its own, and the chunks are added in order: the result depends on the
shapes alone, never on the number of threads.
"""

from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.contraction import Store
from pock_tvm.schedules.cpu.nest import loop, sequence
from pock_tvm.schedules.cpu.tile_loops import TileLoops
from pock_tvm.schedules.cpu.vectors import over_vectors, vector


class Folds:
    """The outputs of a contraction that have one element per column.

    Args:
        loops: of the contraction.
        chunks: of rows.
    """

    def __init__(self, loops: TileLoops, chunks: int) -> None:
        self.loops, self.chunks = loops, chunks
        self.stores, self.width = loops.c.folds, loops.c.columns.extent
        size = loops.number(chunks * self.width)
        self.sums = [tirx.decl_buffer([size], s.buffer.dtype, "sums") for s in self.stores]

    def at(self, chunk: Any, column: Any) -> list[Store]:
        """Return what to store for one element of the result: its value joins the chunk's sum."""
        place = chunk * self.width + column
        return [
            Store(sums, (place,), tirx.BufferLoad(sums, [place]) + store.value)
            for store, sums in zip(self.stores, self.sums, strict=True)
        ]

    def around(self, body: Any) -> Any:
        """Clear the sums, run the loops that fill them, and add up the chunks."""
        allocated = [tirx.AllocBuffer(sums) for sums in self.sums]
        cleared = [self._clear(sums) for sums in self.sums]
        added = [self._add_up(*both) for both in zip(self.stores, self.sums, strict=True)]
        return sequence(*allocated, *cleared, body, *added)

    def _vectors(self, width: int, statement: Any) -> Any:
        lanes, index = self.loops.b.tile.lanes, self.loops.index
        return over_vectors(
            width, lanes, index, lambda o, n: vector(n, index, lambda v: statement(o + v))
        )

    def _clear(self, sums: Any) -> Any:
        zero = tirx.const(0, sums.dtype)
        width = self.chunks * self.width
        return self._vectors(width, lambda v: tirx.BufferStore(sums, zero, [v]))

    def _add_up(self, store: Store, sums: Any) -> Any:
        def first(v: Any) -> Any:
            return tirx.BufferStore(store.buffer, tirx.BufferLoad(sums, [v]), [v])

        def chunk(k: Any) -> Any:
            def add(v: Any) -> Any:
                total = tirx.BufferLoad(store.buffer, [v])
                term = tirx.BufferLoad(sums, [(k + 1) * self.width + v])
                return tirx.BufferStore(store.buffer, total + term, [v])

            return self._vectors(self.width, add)

        rest = loop("k", self.chunks - 1, self.loops.index, chunk) if self.chunks > 1 else None
        return sequence(self._vectors(self.width, first), rest)

"""Products of a few rows with a matrix that is contiguous along the sum: a batch of one or two.

    for t in parallel(groups of columns):
        acc[rows, columns, lanes] = 0              # registers
        for k in vectors of the sum:
            acc[r, n, :] += left[r, k : k + lanes] · right[n, k : k + lanes]
        out[r, n] = epilogue(Σ acc[r, n, :] + the products left over)

Packing the matrix would cost as much as the product.
"""

from functools import partial
from typing import Any

from tvm import ir, tirx

from pock_tvm.schedules.cpu.contraction import Contraction, strides
from pock_tvm.schedules.cpu.nest import PARALLEL, SERIAL, UNROLLED, loop, rewrite, sequence
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS
from pock_tvm.schedules.cpu.vectors import simultaneously, vector
from pock_tvm.targets import TargetSpec

_MOST_ROWS = 4
_ACCUMULATORS = 8


def dot_nest(c: Contraction, spec: TargetSpec) -> Any:
    """Return the loops of such a product, or None."""
    return _Dot(c, spec.vector_lanes(c.dtype)).build() if is_dot(c, spec) else None


def is_dot(c: Contraction, spec: TargetSpec) -> bool:
    """Tell whether a contraction is such a product, of a sum that is long enough."""
    return (
        not c.folds
        and _is_row_times_rows(c)
        and c.reduced[0].extent >= 4 * spec.vector_lanes(c.dtype)
    )


def _is_row_times_rows(c: Contraction) -> bool:
    if (
        c.outer_rows.extent > 1
        or c.rows.extent > _MOST_ROWS
        or len(c.reduced) != 1
        or c.guard is not None
    ):
        return False
    operands = (c.left, c.right)
    if not all(isinstance(x, ir.TensorLoad) for x in operands):
        return False
    steps = [strides(x, c.reduced[0].members) for x in operands]
    return all(s is not None and s[0][-1] == 1 for s in steps)


class _Dot:
    def __init__(self, c: Contraction, lanes: int) -> None:
        self.c, self.lanes, self.index = c, lanes, c.index_dtype
        self.rows, self.length = c.rows.extent, c.reduced[0].extent
        self.width = max(1, _ACCUMULATORS // self.rows)

    def build(self) -> Any:
        columns = self.c.columns.extent
        groups, spare = divmod(columns, self.width)
        work = self.rows * columns * self.length * self.c.batch.extent
        kind = PARALLEL if work >= PARALLEL_POINTS else SERIAL

        def batch(b: Any, body: Any) -> Any:
            return body(self.c.batch.at(b))

        def tile(width: int, start: Any, values: Any) -> Any:
            return self._tile(values, start, width)

        def task(t: Any) -> Any:
            return batch(t // groups, partial(tile, self.width, t % groups * self.width))

        whole = loop("t", self.c.batch.extent * groups, self.index, task, kind) if groups else None
        rest = None
        if spare:
            start = tirx.const(groups * self.width, self.index)
            rest = loop(
                "t",
                self.c.batch.extent,
                self.index,
                lambda t: batch(t, partial(tile, spare, start)),
            )
        return sequence(whole, rest)

    def _tile(self, values: Any, start: Any, width: int) -> Any:
        count = self.rows * width
        acc = self._local(count * self.lanes, "acc")
        total = self._local(count, "total")

        def factors(place: int, k: Any) -> Any:
            r, n = divmod(place, width)
            at = values | self.c.rows.at(tirx.const(r, self.index))
            at |= self.c.columns.at(start + n) | self.c.reduced[0].at(k)
            return rewrite(self.c.left, at) * rewrite(self.c.right, at)

        def lane(place: int, v: Any) -> Any:
            return tirx.BufferLoad(acc, [place * self.lanes + v])

        def add(k: Any, place: int, v: Any) -> Any:
            value = lane(place, v) + factors(place, k * self.lanes + v)
            return tirx.BufferStore(acc, value, [place * self.lanes + v])

        def clear(place: int, v: Any) -> Any:
            return tirx.BufferStore(acc, tirx.const(0, self.c.dtype), [place * self.lanes + v])

        def every(body: Any) -> Any:
            return sequence(
                *(vector(self.lanes, self.index, partial(body, p)) for p in range(count))
            )

        def add_rest(k: Any) -> Any:
            here = tirx.const(self.length // self.lanes * self.lanes, self.index) + k
            return sequence(
                *(self._put(total, p, self._get(total, p) + factors(p, here)) for p in range(count))
            )

        def finish(r: Any, n: Any) -> Any:
            def stores(_: Any) -> Any:
                at = values | self.c.rows.at(r) | self.c.columns.at(start + n)
                done = tirx.BufferLoad(total, [r * width + n])
                return [
                    tirx.BufferStore(
                        s.buffer,
                        rewrite(s.value, at, {self.c.result: lambda _: done}),
                        [rewrite(i, at) for i in s.indices],
                    )
                    for s in self.c.stores
                ]

            return simultaneously(0, 1, self.index, [], stores)

        def add_up(place: int) -> Any:
            lanes = [lane(place, tirx.const(v, self.index)) for v in range(self.lanes)]
            return self._put(total, place, _pairwise(lanes))

        return sequence(
            tirx.AllocBuffer(acc),
            tirx.AllocBuffer(total),
            every(clear),
            loop("k", self.length // self.lanes, self.index, lambda k: every(partial(add, k))),
            *(add_up(p) for p in range(count)),
            loop("k", self.length % self.lanes, self.index, add_rest)
            if self.length % self.lanes
            else None,
            loop(
                "r",
                self.rows,
                self.index,
                lambda r: loop("n", width, self.index, partial(finish, r), UNROLLED),
                UNROLLED,
            ),
        )

    def _local(self, size: int, name: str) -> Any:
        return tirx.decl_buffer([tirx.const(size, self.index)], self.c.dtype, name, scope="local")

    def _get(self, buffer: Any, place: int) -> Any:
        return tirx.BufferLoad(buffer, [tirx.const(place, self.index)])

    def _put(self, buffer: Any, place: int, value: Any) -> Any:
        return tirx.BufferStore(buffer, value, [tirx.const(place, self.index)])


def _pairwise(terms: list[Any]) -> Any:
    """Add neighbours, then sums of neighbours: the order in which a vector folds."""
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [a + b for a, b in zip(terms[:half], terms[half:], strict=True)]
    return terms[0]

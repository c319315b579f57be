"""Fold a tile of elements in one thread, or a slice of each in one of several threads.

acc[tile] = identity
for r in reduced axes: acc[e] = acc[e] ∘ element(e, r)        # each e of the tile

With slices, the thread of slice s takes r = s, s + slices, … along one axis; then

shared[e][thread] = acc[e]
for half in slices / 2 … 1:                                   # behind a barrier each time
    if s < half: shared[e][thread] ∘= shared[e][thread + half · tiles]
"""

import itertools
from collections.abc import Sequence
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.kernels import index_dtype
from pock_tvm.schedules.cpu.nest import loop, rewrite
from pock_tvm.schedules.cpu.stages import extent
from pock_tvm.schedules.cpu.steps import Step
from pock_tvm.schedules.gpu.tiles import Tiling


class FoldedTile:
    """The statements that fold one tile, and its elements once they are through."""

    def __init__(self, step: Step, tiling: Tiling, origin: Sequence[Any]) -> None:
        """Prepare the fold of the tile that starts at ``origin``.

        Args:
            step: the fold.
            tiling: who folds what.
            origin: indices of the tile's first element.
        """
        self.step, self.tiling = step, tiling
        self.index = index_dtype(step.stage)
        offsets = itertools.product(*(range(n) for n in tiling.tile))
        self.places = [[i + o for i, o in zip(origin, at, strict=True)] for at in offsets]
        count = [tirx.const(len(self.places), "int32")]
        self.folded = tirx.decl_buffer(count, step.dtype, "folded", scope="local")

    def element(self, number: int) -> Any:
        """Return an element of the tile, as this thread has folded it."""
        return tirx.BufferLoad(self.folded, [number])

    def fold(self, slice_of: Any) -> list[Any]:
        """Return the statements that fold the tile, or this thread's slice of it."""
        start = [
            tirx.BufferStore(self.folded, self.step.identity, [e]) for e in range(len(self.places))
        ]
        return [
            tirx.AllocBuffer(self.folded),
            *start,
            self._over(self.step.stage.reduced, slice_of, {}),
        ]

    def _over(self, axes: Sequence[Any], slice_of: Any, at: dict[Any, Any]) -> Any:
        if not axes:
            return self._terms(at)
        axis, rest = axes[0], axes[1:]
        count, slices = extent(axis), self.tiling.slices
        sliced = axis.same_as(self.step.stage.reduced[self.tiling.sliced_axis])
        if slices == 1 or not sliced:
            return loop(
                axis.var.name,
                count,
                self.index,
                lambda i: self._over(rest, slice_of, {**at, axis.var: i}),
            )

        def turn(i: Any) -> Any:
            r = i * tirx.const(slices, self.index) + slice_of
            body = self._over(rest, slice_of, {**at, axis.var: r})
            if count % slices == 0:
                return body
            return tirx.IfThenElse(r < tirx.const(count, self.index), body, None)

        return loop(axis.var.name, -(-count // slices), self.index, turn)

    def _terms(self, at: dict[Any, Any]) -> Any:
        fold = self.step.fold
        assert fold is not None
        stores = []
        for e, place in enumerate(self.places):
            spatial = {v.var: i for v, i in zip(self.step.stage.spatial, place, strict=True)}
            term = rewrite(self.step.value, {**spatial, **at})
            stores.append(tirx.BufferStore(self.folded, fold(self.element(e), term), [e]))
        return stores[0] if len(stores) == 1 else tirx.SeqStmt(stores)

    def add_up(self, thread: Any, slice_of: Any, threads: int) -> list[Any]:
        """Return the statements that fold the slices; slice 0 has the result.

        Args:
            thread: number of the thread in its work-group: tile + tiles · slice.
            slice_of: number of its slice.
            threads: of the work-group.
        """
        fold = self.step.fold
        assert fold is not None
        elements, slices = range(len(self.places)), self.tiling.slices
        size = [tirx.const(len(elements) * threads, "int32")]
        shared = tirx.decl_buffer(size, self.step.dtype, "slices", scope="shared")

        def place(e: int, number: Any) -> list[Any]:
            return [number + tirx.const(e * threads, self.index)]

        statements = [tirx.AllocBuffer(shared)]
        statements += [
            tirx.BufferStore(shared, self.element(e), place(e, thread)) for e in elements
        ]
        half = slices // 2
        while half:
            other = thread + tirx.const(half * (threads // slices), self.index)
            sums = [
                tirx.BufferStore(
                    shared,
                    fold(
                        tirx.BufferLoad(shared, place(e, thread)),
                        tirx.BufferLoad(shared, place(e, other)),
                    ),
                    place(e, thread),
                )
                for e in elements
            ]
            body = sums[0] if len(sums) == 1 else tirx.SeqStmt(sums)
            statements.append(barrier())
            statements.append(tirx.IfThenElse(slice_of < tirx.const(half, self.index), body, None))
            half //= 2
        # A thread of slice 0 reads what it has written itself.
        statements += [
            tirx.BufferStore(self.folded, tirx.BufferLoad(shared, place(e, thread)), [e])
            for e in elements
        ]
        return statements


def barrier() -> Any:
    """Return a statement at which the threads of a work-group wait for each other."""
    return tirx.Evaluate(tirx.op.tvm_storage_sync("shared"))

"""A 3x3 convolution by Winograd's tiles: transform, multiply, transform back, some tiles at a time.

    for b in parallel(blocks of tiles):
        for p in tiles of the block, c in vectors of channels: V[p, t, c] = Bᵀ d B
        for g in groups of output channels:
            for t in (m + 2)²: M[p, t, o] = Σₖ V[p, t, k] · u[t, k, o]    # the nest of ``gemm``
            for p in tiles of the block, o in vectors: y[m x m pixels, o] = epilogue(Aᵀ M A)

V and M of a block stay in the level-2 cache. Where the weight is too large to be read for every
block, as with many channels and few pixels, there is one block, and its loops are parallel: over
tiles first, over groups then, each of which reads its own part of the weight.
"""

from functools import partial
from math import ceil
from typing import Any

from tvm import ir, s_tir, tirx

from pock_tvm.schedules.cpu.blocking import Blocking, Sum
from pock_tvm.schedules.cpu.contraction import Axes, Axis, Contraction, Store
from pock_tvm.schedules.cpu.gemm_nest import Nest
from pock_tvm.schedules.cpu.kernels import (
    index_dtype,
    pointwise_outputs,
    pointwise_stores,
    read_stages,
    with_body,
)
from pock_tvm.schedules.cpu.nest import PARALLEL, find, loop, rewrite, sequence, unravel
from pock_tvm.schedules.cpu.panels import Operands
from pock_tvm.schedules.cpu.stages import Stage, extent, is_parameter
from pock_tvm.schedules.cpu.tile_loops import TileLoops
from pock_tvm.schedules.cpu.tiles import register_tile
from pock_tvm.schedules.cpu.vectors import over_vectors, simultaneously
from pock_tvm.schedules.cpu.winograd_cost import GROUPS, blocks_of
from pock_tvm.schedules.cpu.winograd_tiles import Vectors, run, transform
from pock_tvm.targets import TargetSpec

_KERNELS = ("winograd_tiles", "winograd_products", "winograd_conv2d")


def winograd(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule a ``pock.winograd_conv2d`` and what follows it; None for other kernels."""
    stages = read_stages(func)
    named = {s.kernel: s for s in stages if s.kernel in _KERNELS}
    if len(named) < len(_KERNELS):
        return None
    tiles, products, result = (named[name] for name in _KERNELS)
    rest = [s for s in stages if s not in named.values()]
    outputs = pointwise_outputs(func, result, [s for s in rest if s.name != "padded"])
    if outputs is None or (outputs and is_parameter(func, result.output)):
        return None
    return with_body(func, _Nest(tiles, products, result, outputs, rest, spec).build())


class _Nest:
    """The loops of one convolution."""

    def __init__(
        self,
        tiles: Stage,
        products: Stage,
        result: Stage,
        outputs: Any,
        rest: list[Stage],
        spec: TargetSpec,
    ) -> None:
        self.result, self.outputs, self.products = result, outputs, products
        self.index, self.dtype = index_dtype(result), str(result.output.dtype)
        self.lanes = spec.vector_lanes(self.dtype)
        self.gradient = bool(products.block.annotations["pock.gradient"])
        self.m, self.top, self.left = (int(v) for v in tiles.block.annotations["pock.window"])
        self.side = self.m + 2
        self.data = _matrix(tiles, self.side)
        self.inverse = _matrix(result, self.side)
        padded = [s for s in rest if s.name == "padded"]
        read = find((padded[0] if padded else tiles).block.body.value, ir.TensorLoad)
        (self.x,) = {load.source for load in read if len(load.indices) == 4}
        (self.u,) = {
            load.source
            for load in find(products.block.body.value, ir.TensorLoad)
            if len(load.indices) == 4
        }
        _, self.height, self.width, self.depth = (int(d) for d in self.x.shape)
        self.batch, self.rows, self.columns, self.channels = (extent(v) for v in result.spatial)
        self.down, self.across = ceil(self.rows / self.m), ceil(self.columns / self.m)
        self.count = self.batch * self.down * self.across
        self._cut(spec)
        self.v = self._buffer(self.tiles * self.v_pitch, "tiles")
        self.sums = self._buffer(self.tiles * self.sums_pitch, "sums")

    def _cut(self, spec: TargetSpec) -> None:
        """Choose blocks of tiles and groups of channels."""
        products = self.side**2
        together = int(self.u.shape[3])
        in_group = self.channels if self.gradient else together
        self.group = next(g for g in GROUPS if in_group % g == 0)
        shape = (self.count, products, self.depth, self.channels, self.group)
        blocks = blocks_of(*shape, spec)
        self.in_blocks = blocks > 1
        if self.in_blocks:
            blocks = max(blocks, 2 * spec.cores)
            self.tiles = ceil(self.count / blocks)
        else:
            self.tiles = self.count
            smaller = [g for g in GROUPS if self.group % g == 0]
            many = [g for g in smaller if self.channels // g >= 2 * spec.cores]
            self.group = (many or smaller[-1:])[0]
        self.blocks = ceil(self.count / self.tiles)
        # Some more, so that the rows of a register tile fall into different cache sets.
        self.v_pitch = products * self.depth + 16
        self.sums_pitch = products * self.group + 16
        self.register_tile = register_tile(self.tiles, self.group, self.dtype, spec)

    def build(self) -> Any:
        groups = self.channels // self.group
        if self.in_blocks:

            def block(b: Any) -> Any:
                first = b * self.tiles
                return sequence(
                    tirx.AllocBuffer(self.v),
                    tirx.AllocBuffer(self.sums),
                    loop("p", self.tiles, self.index, partial(self._read, first)),
                    loop("g", groups, self.index, partial(self._group, first)),
                )

            return loop("b", self.blocks, self.index, block, PARALLEL)
        zero = tirx.const(0, self.index)

        def group(g: Any) -> Any:
            return sequence(tirx.AllocBuffer(self.sums), self._group(zero, g))

        return sequence(
            tirx.AllocBuffer(self.v),
            loop("p", self.tiles, self.index, partial(self._read, zero), PARALLEL),
            loop("g", groups, self.index, group, PARALLEL),
        )

    def _place(self, tile: Any) -> tuple[Any, Any, Any]:
        """Return the picture of a tile, and the first row and column that it writes."""
        batch, row, column = unravel(tile, [self.batch, self.down, self.across])
        return batch, row * self.m, column * self.m

    # V = Bᵀ d B

    def _read(self, first: Any, p: Any) -> Any:
        tile = first + p
        if self.count % self.tiles:  # the last block's spare rows hold the last tile once more
            tile = tirx.min(tile, tirx.const(self.count - 1, self.index))
        batch, row, column = self._place(tile)
        row, column = row - self.top, column - self.left
        inside = tirx.all(
            row >= 0,
            row + self.side <= self.height,
            column >= 0,
            column + self.side <= self.width,
        )

        def pixel(i: Any, j: Any, c: Any, n: int) -> Any:
            return tirx.BufferLoad(self.x, [batch, row + i, column + j, run(c, n)])

        def vectors(load: Any) -> Any:
            return over_vectors(self.depth, self.lanes, self.index, load)

        def directly(c: Any, n: int) -> Any:
            return self._transformed(p, c, n, lambda i, j: pixel(i, j, c, n))

        def at_border(c: Any, n: int) -> Any:
            patch = Vectors(self.side**2, n, self.index, self.dtype, "patch")

            def fill(i: Any, j: Any) -> Any:
                present = tirx.all(
                    row + i >= 0,
                    row + i < self.height,
                    column + j >= 0,
                    column + j < self.width,
                )
                zero = tirx.const(0, self.dtype)
                zeros = zero if n == 1 else tirx.Broadcast(zero, n)
                return tirx.IfThenElse(
                    present,
                    patch.store(i * self.side + j, pixel(i, j, c, n)),
                    patch.store(i * self.side + j, zeros),
                )

            def line(i: Any) -> Any:
                return loop("j", self.side, self.index, partial(fill, i))

            return sequence(
                tirx.AllocBuffer(patch.buffer),
                loop("i", self.side, self.index, line),
                self._transformed(p, c, n, lambda i, j: patch.load(i * self.side + j)),
            )

        return tirx.IfThenElse(inside, vectors(directly), vectors(at_border))

    def _transformed(self, p: Any, c: Any, n: int, load: Any) -> Any:
        def store(a: int, b: int, value: Any) -> Any:
            place = p * self.v_pitch + (a * self.side + b) * self.depth + c
            return tirx.BufferStore(self.v, value, [run(place, n)])

        return transform(self.data, n, self.index, self.dtype, load, store)

    # M = V u, and y = Aᵀ M A

    def _group(self, first: Any, g: Any) -> Any:
        return sequence(
            self._multiply(g),
            loop("p", self.tiles, self.index, partial(self._write, first, g)),
        )

    def _multiply(self, g: Any) -> Any:
        together = int(self.u.shape[3])
        t, row, column = (tirx.Var(name, self.index) for name in "trc")
        outer, inner = (tirx.Var(name, self.index) for name in ("ko", "ki"))
        channel = g * self.group + column
        if self.gradient:
            reduced: tuple[Axes, ...] = tuple(
                Axes((Axis(var, n),))
                for var, n in ((outer, self.depth // together), (inner, together))
                if n > 1
            )
            k = outer * together + inner
            if self.depth == together:
                k, outer = inner, tirx.const(0, self.index)
            right = tirx.BufferLoad(self.u, [outer, t, channel, inner])
        else:
            reduced, k = (Axes((Axis(inner, self.depth),)),), inner
            shares = together // self.group
            start = g % shares * self.group if shares > 1 else 0
            right = tirx.BufferLoad(self.u, [g // shares, t, inner, start + column])
        left = tirx.BufferLoad(self.v, [row * self.v_pitch + t * self.depth + k])
        result = self.products.output
        zero = tirx.const(0, self.index)
        store = Store(
            self.sums,
            (row * self.sums_pitch + t * self.group + column,),
            tirx.BufferLoad(result, [zero] * len(result.shape)),
        )
        contraction = Contraction(
            batch=Axes((Axis(t, self.side**2),)),
            outer_rows=Axes(()),
            rows=Axes((Axis(row, self.tiles),)),
            columns=Axes((Axis(column, self.group),)),
            reduced=reduced,
            left=left,
            right=right,
            result=result,
            stores=(store,),
            prologues=(),
            guard=None,
        )
        tile = self.register_tile
        units = max(1, self.tiles // tile.rows)
        width = min(tile.width, self.group)
        blocking = Blocking(
            tile=tile,
            width=width,
            group=ceil(self.group / width),
            chunk=units,
            units=units,
            sum=Sum((), None, 1, reduced),
            packs=self.gradient,
            shared=False,
            copies_left="",
            parallel=False,
        )
        return Nest(Operands(TileLoops(contraction, blocking))).build()

    def _write(self, first: Any, g: Any, p: Any) -> Any:
        batch, row, column = self._place(first + p)

        def vectors(o: Any, n: int) -> Any:
            square = Vectors(self.m**2, n, self.index, self.dtype, "square")

            def load(i: int, j: int) -> Any:
                place = p * self.sums_pitch + (i * self.side + j) * self.group + o
                return tirx.BufferLoad(self.sums, [run(place, n)])

            def keep(a: int, b: int, value: Any) -> Any:
                return square.store(a * self.m + b, value)

            def pixel(r: Any, s: Any) -> Any:
                def stores(at: list[Any]) -> list[Any]:
                    total = tirx.BufferLoad(square.buffer, [(r * self.m + s) * n + at[-1]])
                    where = [*at[:-1], g * self.group + o + at[-1]]
                    return self._stores(where, total)

                zero = tirx.const(0, self.index)
                done = simultaneously(zero, n, self.index, [batch, row + r, column + s], stores)
                return self._within(column + s, self.columns, done)

            def line(r: Any) -> Any:
                pixels = loop("s", self.m, self.index, partial(pixel, r))
                return self._within(row + r, self.rows, pixels)

            return sequence(
                tirx.AllocBuffer(square.buffer),
                transform(self.inverse, n, self.index, self.dtype, load, keep),
                loop("r", self.m, self.index, line),
            )

        body = over_vectors(self.group, self.lanes, self.index, vectors)
        if self.count % self.tiles == 0:
            return body
        return tirx.IfThenElse(first + p < self.count, body, None)

    def _within(self, place: Any, size: int, body: Any) -> Any:
        """Leave out what a tile writes beyond the picture."""
        return body if size % self.m == 0 else tirx.IfThenElse(place < size, body, None)

    def _stores(self, where: list[Any], total: Any) -> list[Any]:
        if not self.outputs:
            return [tirx.BufferStore(self.result.output, total, where)]
        found = {self.result.output: lambda _: total}
        return [
            tirx.BufferStore(s.buffer, rewrite(s.value, {}, found), s.indices)
            for s in pointwise_stores(self.outputs, where)
        ]

    def _buffer(self, size: int, name: str) -> Any:
        return tirx.decl_buffer([tirx.const(size, self.index)], self.dtype, name)


def _matrix(stage: Stage, columns: int) -> list[list[float]]:
    entries = [float(x) for x in stage.block.annotations["pock.matrix"]]
    return [entries[i : i + columns] for i in range(0, len(entries), columns)]

"""Depthwise convolution and its data gradient, channels last.

    for t in parallel(pictures · rows):
        for tile in column tiles:                  # the first and the last know their borders
            for c in channel vectors:
                acc[columns] = 0                   # registers
                for p in kernel rows, if inside:
                    for q, column in unrolled: acc[column] += in[row, column', c] · w[p, q, c]
                out[columns, c] = epilogue(acc[columns])

No padded copy is made: rows outside are skipped by a scalar test, columns outside by leaving their
products out of the border tiles. The data gradient of a strided convolution writes ``stride``
columns per step, each from the taps that reach it, so no product with a spread zero is computed.
"""

# ruff: noqa: B023 - loop() and vector() call the body at once, no closure outlives its turn

from dataclasses import dataclass
from math import ceil
from typing import Any

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.kernels import (
    at_point,
    index_dtype,
    pointwise_outputs,
    read_stages,
    with_body,
)
from pock_tvm.schedules.cpu.nest import PARALLEL, SERIAL, loop, rewrite, sequence
from pock_tvm.schedules.cpu.stages import Stage, extent, is_parameter, loads
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS
from pock_tvm.schedules.cpu.vectors import over_vectors, vector
from pock_tvm.targets import TargetSpec


@dataclass(frozen=True)
class Geometry:
    """The window of a depthwise kernel, as its lowering wrote it on the block."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, stage: Stage) -> "Geometry":
        """Read ``pock.window``: strides, top and left padding, dilations."""
        sh, sw, top, left, dh, dw = (int(n) for n in stage.block.annotations["pock.window"])
        return cls((sh, sw), (top, left), (dh, dw))


@dataclass(frozen=True)
class Reach:
    """How columns read columns: output ``period·t + r`` reads input ``step·t + offset`` per tap."""

    period: int
    step: int
    taps: tuple[tuple[tuple[int, int], ...], ...]
    """For each r the (tap, offset) pairs."""

    @classmethod
    def forward(cls, taps: int, stride: int, pad: int, dilation: int) -> "Reach":
        """Columns of a convolution."""
        return cls(1, stride, (tuple((q, q * dilation - pad) for q in range(taps)),))

    @classmethod
    def backward(cls, taps: int, stride: int, pad: int, dilation: int) -> "Reach":
        """Columns of a data gradient: the taps that divide without a remainder."""
        return cls(
            stride,
            1,
            tuple(
                tuple(
                    (q, (r + pad - q * dilation) // stride)
                    for q in range(taps)
                    if (r + pad - q * dilation) % stride == 0
                )
                for r in range(stride)
            ),
        )

    def inside(self, t: int, width_in: int, width_out: int) -> bool:
        """Tell whether step ``t`` needs no test: all it reads and writes exists."""
        offsets = [offset for taps in self.taps for _, offset in taps]
        low, high = min(offsets, default=0), max(offsets, default=0)
        fits = self.period * t + self.period <= width_out
        return fits and self.step * t + low >= 0 and self.step * t + high < width_in


def depthwise(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule ``depthwise_conv2d`` and ``depthwise_conv2d_data_grad``."""
    nests = read_stages(func)
    names = [s.kernel for s in nests]
    for name in ("depthwise_conv2d", "depthwise_conv2d_data_grad"):
        if names.count(name) == 1:
            at = names.index(name)
            return _schedule(func, spec, nests[:at], nests[at], nests[at + 1 :])
    return None


def source_of(buffer: Any, before: list[Stage], func: tirx.PrimFunc) -> Any | None:
    """Return the parameter that a padded or spread tensor was copied from, or None."""
    if is_parameter(func, buffer):
        return buffer if not before else None
    if len(before) != 1 or not before[0].output.same_as(buffer):
        return None
    (load,) = loads(before[0].block.body)
    return load.source if is_parameter(func, load.source) else None


def _schedule(
    func: tirx.PrimFunc, spec: TargetSpec, before: list[Stage], anchor: Stage, after: list[Stage]
) -> s_tir.Schedule | None:
    data, weight = (load.source for load in loads(anchor.block.body.value)[-2:])
    source, outputs = source_of(data, before, func), pointwise_outputs(func, anchor, after)
    if source is None or outputs is None:
        return None
    nest = _Nest(anchor, source, weight, outputs, spec, whole=is_parameter(func, anchor.output))
    return with_body(func, nest.build())


class _Nest:
    """Builds the loops of one kernel."""

    def __init__(
        self,
        anchor: Stage,
        source: Any,
        weight: Any,
        outputs: Any,
        spec: TargetSpec,
        *,
        whole: bool,
    ) -> None:
        self.anchor, self.source, self.weight, self.outputs = anchor, source, weight, outputs
        self.keeps_sum = whole
        self.backward = anchor.kernel == "depthwise_conv2d_data_grad"
        self.geometry = Geometry.of(anchor)
        self.batch, self.rows, self.columns, self.channels = (extent(v) for v in anchor.spatial)
        self.taps_h, self.taps_w = (extent(v) for v in anchor.reduced)
        self.rows_in, self.columns_in = (int(n) for n in source.shape[1:3])
        self.dtype, self.index = str(anchor.output.dtype), index_dtype(anchor)
        self.lanes = spec.vector_lanes(self.dtype)
        make = Reach.backward if self.backward else Reach.forward
        g = self.geometry
        self.reach = make(self.taps_w, g.stride[1], g.padding[1], g.dilation[1])

    def build(self) -> Any:
        """Return the whole nest."""
        steps = ceil(self.columns / self.reach.period)
        size = _tile_steps(steps, self.reach.period)
        tiles = [range(t, min(t + size, steps)) for t in range(0, steps, size)]
        free = [
            len(tile) == size
            and all(self.reach.inside(t, self.columns_in, self.columns) for t in tile)
            for tile in tiles
        ]
        first = free.index(True) if True in free else len(tiles)
        last = first + sum(free)  # the free tiles are neighbours: only borders are not

        def row(t: Any) -> Any:
            b, i = t // self.rows, t % self.rows

            def at(start: Any, steps: int, *, border: bool) -> Any:
                return over_vectors(
                    self.channels,
                    self.lanes,
                    self.index,
                    lambda c, lanes: self._tile(b, i, start, steps, c, lanes, border=border),
                )

            inner = loop(
                "tile",
                last - first,
                self.index,
                lambda k: at((first + k) * size, size, border=False),
            )
            borders = [at(tile[0], len(tile), border=True) for tile in tiles]
            return sequence(*borders[:first], inner if last > first else None, *borders[last:])

        points = self.batch * self.rows * self.columns * self.channels
        kind = PARALLEL if points * self.taps_h >= PARALLEL_POINTS else SERIAL
        return loop("t", self.batch * self.rows, self.index, row, kind)

    def _tile(
        self, b: Any, i: Any, start: Any, steps: int, c: Any, lanes: int, *, border: bool
    ) -> Any:
        """Accumulate and store ``steps`` steps of columns by ``lanes`` channels."""
        columns = [
            (s, r)
            for s in range(steps)
            for r in range(self.reach.period)
            if not border or self.reach.period * (start + s) + r < self.columns
        ]
        acc = tirx.decl_buffer(
            [tirx.const(len(columns) * lanes, self.index)], self.dtype, "acc", scope="local"
        )
        zero = tirx.const(0, self.dtype)

        def products(p: Any) -> Any:
            inside, row = self._row(i, p)
            terms = []
            for k, (s, r) in enumerate(columns):
                for q, offset in self.reach.taps[r]:
                    column = self.reach.step * (start + s) + offset
                    if border and not 0 <= column < self.columns_in:
                        continue
                    terms.append(self._product(acc, k, b, row, column, p, q, c, lanes))
            return tirx.IfThenElse(inside, sequence(*terms), None) if terms else None

        def store(k: int, s: int, r: int) -> Any:
            column = self.reach.period * (start + s) + r
            column = tirx.const(column, self.index) if isinstance(column, int) else column
            return vector(
                lanes,
                self.index,
                lambda v: self._store([b, i, column, c + v], tirx.BufferLoad(acc, [k * lanes + v])),
            )

        return sequence(
            tirx.AllocBuffer(acc),
            *(
                vector(lanes, self.index, lambda v: tirx.BufferStore(acc, zero, [k * lanes + v]))
                for k in range(len(columns))
            ),
            *(products(tirx.const(p, self.index)) for p in range(self.taps_h)),
            *(store(k, s, r) for k, (s, r) in enumerate(columns)),
        )

    def _product(
        self, acc: Any, k: int, b: Any, row: Any, column: Any, p: Any, q: int, c: Any, lanes: int
    ) -> Any:
        def add(v: Any) -> Any:
            x = tirx.BufferLoad(self.source, [b, row, column, c + v])
            w = tirx.BufferLoad(self.weight, [p, q, 0, c + v])
            place = [k * lanes + v]
            return tirx.BufferStore(acc, tirx.BufferLoad(acc, place) + x * w, place)

        return vector(lanes, self.index, add)

    def _row(self, i: Any, p: Any) -> tuple[Any, Any]:
        """Return whether kernel row ``p`` reaches the input from output row ``i``, and where."""
        stride, pad, dilation = (
            self.geometry.stride[0],
            self.geometry.padding[0],
            self.geometry.dilation[0],
        )
        if not self.backward:
            row = i * stride + p * dilation - pad
            return tirx.all(row >= 0, row < self.rows_in), row
        distance = i + pad - p * dilation
        row = tirx.indexdiv(distance, stride)
        inside = tirx.all(distance >= 0, row < self.rows_in)
        if stride > 1:
            inside = tirx.all(inside, tirx.indexmod(distance, stride) == 0)
        return inside, row

    def _store(self, indices: list[Any], value: Any) -> Any:
        kept = tirx.BufferStore(self.anchor.output, value, indices) if self.keeps_sum else None
        stores = [
            tirx.BufferStore(
                stage.output,
                rewrite(
                    at_point(stage, result, indices), {}, {self.anchor.output: lambda _: value}
                ),
                indices,
            )
            for stage, result in self.outputs
        ]
        return sequence(kept, *stores)


def _tile_steps(steps: int, period: int) -> int:
    """Return the steps of one tile: about eight accumulators, and few left over at the end."""
    sizes = range(max(1, 4 // period), max(1, 8 // period) + 1)
    return min((s for s in sizes), key=lambda s: (ceil(steps / s) * s - steps, -s))

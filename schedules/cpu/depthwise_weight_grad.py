"""Weight gradient of a depthwise convolution, channels last: kh·kw sums per channel over pixels.

    for g in parallel(channel groups):             # times pictures, where channels are few
        out[:, :, g] = 0
        for b in pictures:
            for i in rows:                         # one loop per set of kernel rows inside
                for c in vectors of the group:
                    acc[kh · kw] = 0               # registers
                    for j in columns, four at once:
                        for p, q in unrolled: acc[p, q] += x[i + p, j + q, c] · ct[i, j, c]
                    out[:, :, c] += acc

Rows and columns fall into segments that see the same kernel taps, so borders need no padded copy
and no test. A group is one cache line of channels: with a register of that size the sums stay in
registers for a whole picture, else for one row. Sums of pictures are added up last, which also
keeps the rounding error of long sums down.
"""

# ruff: noqa: B023 - loop() and vector() call the body at once, no closure outlives its turn

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.depthwise import Geometry, source_of
from pock_tvm.schedules.cpu.kernels import (
    index_dtype,
    pointwise_outputs,
    pointwise_stores,
    read_stages,
    resolve,
    with_body,
)
from pock_tvm.schedules.cpu.nest import PARALLEL, SERIAL, loop, rewrite, sequence
from pock_tvm.schedules.cpu.stages import Stage, extent, is_parameter, loads
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS
from pock_tvm.schedules.cpu.vectors import over_vectors, pointwise, vector
from pock_tvm.targets import TargetSpec

Segment = tuple[int, int, tuple[int, ...]]
"""(first, count, kernel taps that are inside)."""

_LINE_BYTES = 64
_TASKS = 8
"""Channel groups that are enough to share out; with fewer, pictures are shared out too."""


def depthwise_weight_grad(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule ``depthwise_conv2d_weight_grad``."""
    nests = read_stages(func)
    names = [s.kernel for s in nests]
    if names.count("depthwise_conv2d_weight_grad") != 1:
        return None
    at = names.index("depthwise_conv2d_weight_grad")
    anchor = nests[at]
    data, ct = (load.source for load in loads(anchor.block.body.value)[-2:])
    source = source_of(data, nests[:at], func)
    after = nests[at + 1 :]
    outputs = pointwise_outputs(func, anchor, [s for s in after if not s.is_reduction])
    sums = [s for s in after if s.is_reduction]
    if source is None or outputs is None or not all(_sums_channels(s, anchor) for s in sums):
        return None
    nest = _Nest(anchor, source, ct, spec)
    if not outputs:
        return None if sums else with_body(func, nest.build())
    # Before the update, which writes over the weight that they read.
    scales = [nest.sum_taps(s, [p for p in after if p.is_injective]) for s in sums]
    update = pointwise(
        [extent(v) for v in anchor.spatial],
        nest.lanes,
        nest.index,
        lambda indices: pointwise_stores(outputs, indices),
    )
    gradient = None if is_parameter(func, anchor.output) else tirx.AllocBuffer(anchor.output)
    return with_body(func, sequence(gradient, nest.build(), *scales, update))


def _sums_channels(stage: Stage, anchor: Stage) -> bool:
    """Tell whether a stage adds up, for each channel, what the taps of the gradient make."""
    value, axes = stage.block.body.value, stage.spatial
    return (
        isinstance(value, tirx.Add)
        and len(axes) == 1
        and extent(axes[0]) == extent(anchor.spatial[-1])
        and [extent(v) for v in stage.reduced] == [extent(v) for v in anchor.spatial[:-1]]
        and all(
            len(load.indices) == len(anchor.spatial) and load.indices[-1].same_as(axes[0].var)
            for load in loads(value.b)
        )
    )


def segments(count: int, taps: int, stride: int, pad: int, dilation: int, limit: int) -> Any:
    """Group neighbouring output positions that read the input through the same taps."""

    def inside(i: int) -> tuple[int, ...]:
        return tuple(p for p in range(taps) if 0 <= i * stride + p * dilation - pad < limit)

    found: list[Segment] = []
    for key, members in groupby(range(count), key=inside):
        run = list(members)
        found.append((run[0], len(run), key))
    return found


class _Nest:
    """Builds the loops of one kernel."""

    def __init__(self, anchor: Stage, source: Any, ct: Any, spec: TargetSpec) -> None:
        self.out, self.source, self.ct = anchor.output, source, ct
        self.taps_h, self.taps_w, _, self.channels = (extent(v) for v in anchor.spatial)
        self.batch, rows, columns = (extent(v) for v in anchor.reduced)
        self.g = g = Geometry.of(anchor)
        height, width = (int(n) for n in source.shape[1:3])
        self.dtype, self.index = str(anchor.output.dtype), index_dtype(anchor)
        self.lanes = spec.vector_lanes(self.dtype)
        axis = (g.stride[0], g.padding[0], g.dilation[0])
        self.rows = segments(rows, self.taps_h, *axis, height)
        axis = (g.stride[1], g.padding[1], g.dilation[1])
        self.columns = segments(columns, self.taps_w, *axis, width)
        self.group = max(self.lanes, _LINE_BYTES * 8 // spec.vector_bits * self.lanes)
        points = self.batch * rows * columns * self.channels * self.taps_h
        self.kind = PARALLEL if points >= PARALLEL_POINTS else SERIAL

    def build(self) -> Any:
        """Return the whole nest."""
        groups, spare = divmod(self.channels, self.group)
        if self.batch > 1 and groups < _TASKS:
            return self._shared_out_by_picture(groups, spare)

        def task(c: Any, width: int) -> Any:
            return sequence(
                self._zero(self._into_output, c, width),
                loop(
                    "b",
                    self.batch,
                    self.index,
                    lambda b: self._picture(self._into_output, b, c, width),
                ),
            )

        return self._groups(groups, spare, task)

    def sum_taps(self, stage: Stage, before: Sequence[Stage]) -> Any:
        """Return the loops of a stage that adds up the taps of each channel."""
        value = resolve(stage.block.body.value.b, before)
        axes = [*stage.reduced, *stage.spatial]

        def clear(c: Any, lanes: int) -> Any:
            zero = tirx.const(0, self.dtype)
            return vector(
                lanes, self.index, lambda v: tirx.BufferStore(stage.output, zero, [c + v])
            )

        def add(indices: list[Any]) -> list[Any]:
            at = {axis.var: i for axis, i in zip(axes, indices, strict=True)}
            total = tirx.BufferLoad(stage.output, indices[-1:])
            return [tirx.BufferStore(stage.output, total + rewrite(value, at), indices[-1:])]

        return sequence(
            over_vectors(self.channels, self.lanes, self.index, clear),
            pointwise([extent(v) for v in axes], self.lanes, self.index, add),
        )

    def _groups(self, groups: int, spare: int, task: Any) -> Any:
        def one(g: Any) -> Any:
            return task(g * self.group, self.group)

        full = loop("g", groups, self.index, one, self.kind) if groups else None
        rest = task(tirx.const(groups * self.group, self.index), spare) if spare else None
        return sequence(full, rest)

    def _shared_out_by_picture(self, groups: int, spare: int) -> Any:
        """Sum each picture into its own slice of a workspace, then add the slices in order."""
        shape = [self.batch, self.taps_h, self.taps_w, self.channels]
        sums = tirx.decl_buffer([tirx.const(n, self.index) for n in shape], self.dtype, "partial")

        def picture(b: Any) -> Any:
            def into(p: int, q: int, c: Any) -> tuple[Any, list[Any]]:
                return sums, [b, p, q, c]

            def task(c: Any, width: int) -> Any:
                return sequence(self._zero(into, c, width), self._picture(into, b, c, width))

            full = loop("g", groups, self.index, lambda g: task(g * self.group, self.group))
            rest = task(tirx.const(groups * self.group, self.index), spare) if spare else None
            return sequence(full if groups else None, rest)

        def add(b: Any) -> Any:
            def one(v: Any, p: int, q: int, c: Any) -> Any:
                value = tirx.BufferLoad(sums, [b, p, q, c + v])
                at = [p, q, 0, c + v]
                return tirx.BufferStore(self.out, tirx.BufferLoad(self.out, at) + value, at)

            return self._over_taps(tirx.const(0, self.index), self.channels, one)

        return sequence(
            tirx.AllocBuffer(sums),
            loop("b", self.batch, self.index, picture, self.kind),
            self._zero(self._into_output, tirx.const(0, self.index), self.channels),
            loop("b", self.batch, self.index, add),
        )

    def _into_output(self, p: int, q: int, c: Any) -> tuple[Any, list[Any]]:
        return self.out, [p, q, 0, c]

    def _over_taps(self, c: Any, width: int, body: Any) -> Any:
        return over_vectors(
            width,
            self.lanes,
            self.index,
            lambda offset, lanes: sequence(
                *(
                    vector(lanes, self.index, lambda v: body(v, p, q, c + offset))
                    for p in range(self.taps_h)
                    for q in range(self.taps_w)
                )
            ),
        )

    def _zero(self, into: Any, c: Any, width: int) -> Any:
        def one(v: Any, p: int, q: int, at: Any) -> Any:
            buffer, indices = into(p, q, at + v)
            return tirx.BufferStore(buffer, tirx.const(0, self.dtype), indices)

        return self._over_taps(c, width, one)

    def _picture(self, into: Any, b: Any, c: Any, width: int) -> Any:
        """Add the sums of one picture for ``width`` channels."""
        if width == self.lanes:
            return self._accumulate(
                into,
                c,
                width,
                lambda acc: self._over_rows(lambda i, taps: self._row(acc, b, i, taps, c, width)),
            )
        return self._over_rows(
            lambda i, taps: over_vectors(
                width,
                self.lanes,
                self.index,
                lambda o, lanes: self._accumulate(
                    into, c + o, lanes, lambda acc: self._row(acc, b, i, taps, c + o, lanes)
                ),
            )
        )

    def _over_rows(self, body: Any) -> Any:
        return sequence(
            *(
                loop("i", count, self.index, lambda i: body(i + first, taps))
                for first, count, taps in self.rows
            )
        )

    def _accumulate(self, into: Any, c: Any, lanes: int, body: Any) -> Any:
        """Run ``body`` on sums that start at zero, and add them to their place."""
        count = self.taps_h * self.taps_w
        acc = tirx.decl_buffer(
            [tirx.const(count * lanes, self.index)], self.dtype, "acc", scope="local"
        )
        zero = tirx.const(0, self.dtype)

        def add(v: Any, k: int) -> Any:
            buffer, indices = into(*divmod(k, self.taps_w), c + v)
            value = tirx.BufferLoad(buffer, indices) + tirx.BufferLoad(acc, [k * lanes + v])
            return tirx.BufferStore(buffer, value, indices)

        def start(v: Any, k: int) -> Any:
            return tirx.BufferStore(acc, zero, [k * lanes + v])

        return sequence(
            tirx.AllocBuffer(acc),
            *(vector(lanes, self.index, lambda v: start(v, k)) for k in range(count)),
            body(acc),
            *(vector(lanes, self.index, lambda v: add(v, k)) for k in range(count)),
        )

    def _row(self, acc: Any, b: Any, i: Any, taps: tuple[int, ...], c: Any, lanes: int) -> Any:
        """Add the products of one row of pixels."""

        def columns(first: Any, count: int, inside: tuple[int, ...]) -> list[Any]:
            return [
                vector(
                    lanes,
                    self.index,
                    lambda v: self._product(acc, b, i, first + j, p, q, c, v, lanes),
                )
                for p in taps
                for j in range(count)
                for q in inside
            ]

        def columns_from(first: int, inside: tuple[int, ...], j: Any) -> Any:
            return sequence(*columns(j * step + first, step, inside))

        step = 4 if self.taps_h * self.taps_w <= 9 else 1  # more taps hide the latency already
        parts = []
        for first, count, inside in self.columns:
            rounds, rest = divmod(count, step)
            if rounds:
                begin = partial(columns_from, first, inside)
                parts.append(loop("j", rounds, self.index, begin))
            parts += columns(first + rounds * step, rest, inside)
        return sequence(*parts)

    def _product(
        self, acc: Any, b: Any, i: Any, j: Any, p: int, q: int, c: Any, v: Any, lanes: int
    ) -> Any:
        (sh, sw), (top, left), (dh, dw) = self.g.stride, self.g.padding, self.g.dilation
        x = tirx.BufferLoad(self.source, [b, i * sh + p * dh - top, j * sw + q * dw - left, c + v])
        ct = tirx.BufferLoad(self.ct, [b, i, j, c + v])
        place = [(p * self.taps_w + q) * lanes + v]
        return tirx.BufferStore(acc, tirx.BufferLoad(acc, place) + x * ct, place)

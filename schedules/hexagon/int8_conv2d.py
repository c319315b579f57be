"""Products of 8-bit integers in words, by ``vrmpy``: 128 multiplications in an instruction.

    for t in parallel(rows of pixels x tiles of them x blocks of 32 channels):
        acc[pixels, 32] = 0                                   # registers of 128 bytes
        for p, q, c in taps, words of channels:
            vector = w[block, p, q, c, :]
            for r in unrolled(pixels):
                acc[r, :] = vrmpy(acc[r, :], vector, splat(x[…, pixel r, c]))
        sums = acc
        y[…, pixel r, channel] = epilogue(sums[r, channel])   # scalar: V66 has no vectors of floats

``vrmpy`` adds to each word the four products of its bytes (Hexagon V66 HVX Programmer's Reference
Manual, "Multiply by word, vector by vector"): what the sum over the bytes of a word says, exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.kernels import (
    at_point,
    index_dtype,
    pointwise_outputs,
    read_stages,
    with_body,
)
from pock_tvm.schedules.cpu.nest import (
    PARALLEL,
    SERIAL,
    UNROLLED,
    loop,
    rewrite,
    sequence,
    unravel,
)
from pock_tvm.schedules.cpu.stages import Stage, extent, is_parameter, loads
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS
from pock_tvm.targets import TargetSpec

_PIXELS = 8
"""Accumulators; of 32 registers, a weight and a splat want two more."""
_COLUMNS = 32
_MULTIPLY = "llvm.hexagon.V6.vrmpybv.acc.128B"


def int8_conv2d(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule the convolution of words for a target with vectors of 128 bytes; None for others."""
    if "+hvx-length128b" not in (spec.tvm_options.get("mattr") or ()):
        return None
    anchor, *after = read_stages(func)
    if anchor.kernel != "int8_conv2d":
        return None
    outputs = pointwise_outputs(func, anchor, after)
    if outputs is None or (outputs and is_parameter(func, anchor.output)):
        return None
    return with_body(func, _Nest(anchor, outputs, index_dtype(anchor)).build())


@dataclass(frozen=True)
class _Place:
    """A tile: of which picture and row, from which pixel, for which block of channels."""

    picture: Any
    row: Any
    first: Any
    block: Any
    pixels: int
    columns: int


class _Nest:
    def __init__(self, anchor: Stage, outputs: Any, index: str) -> None:
        self.anchor, self.outputs, self.index = anchor, outputs, index
        self.sizes = [extent(v) for v in anchor.spatial]
        self.reduced = [extent(v) for v in anchor.reduced]
        self.strides = [int(v) for v in anchor.block.annotations["pock.window"]]
        sources = {len(x.source.shape): x.source for x in loads(anchor.block.body.value)}
        self.x, self.w = sources[4], sources[5]

    def build(self) -> Any:
        """Return the loops over full tiles, then those over what is left of rows and channels."""
        whole, spare = divmod(self.sizes[2], _PIXELS)
        blocks, rest = divmod(self.sizes[3], _COLUMNS)
        pixels = [(whole, 0, _PIXELS), (1 if spare else 0, whole * _PIXELS, spare)]
        columns = [(blocks, 0, _COLUMNS), (1 if rest else 0, blocks, rest)]
        return sequence(*(self._tiles(p, c) for p in pixels for c in columns if p[0] and c[0]))

    def _tiles(self, pixels: tuple[int, int, int], columns: tuple[int, int, int]) -> Any:
        counts = [*self.sizes[:2], pixels[0], columns[0]]

        def task(t: Any) -> Any:
            picture, row, k, block = unravel(t, counts)
            first = k * pixels[2] + pixels[1]
            place = _Place(picture, row, first, block + columns[1], pixels[2], columns[2])
            return self._tile(place)

        tasks = counts[0] * counts[1] * counts[2] * counts[3]
        work = tasks * pixels[2] * _COLUMNS * self.reduced[0] * self.reduced[1] * self.reduced[2]
        return loop("t", tasks, self.index, task, PARALLEL if work >= PARALLEL_POINTS else SERIAL)

    def _tile(self, place: _Place) -> Any:
        size = tirx.const(place.pixels * _COLUMNS, self.index)
        acc = tirx.decl_buffer([size], "int32", "acc", scope="local")
        sums = tirx.decl_buffer([size], "int32", "sums", scope="local")
        sh, sw, dh, dw = self.strides

        def every(body: Callable[[Any], Any]) -> Any:
            return loop("r", place.pixels, self.index, body, UNROLLED)

        def clear(r: Any) -> Any:
            zero = tirx.Broadcast(tirx.const(0, "int32"), _COLUMNS)
            return tirx.BufferStore(acc, zero, self._lanes(r))

        def multiply(p: Any, q: Any, c: Any, r: Any) -> Any:
            vector = tirx.BufferLoad(
                self.w, [place.block, p, q, c, *self._lanes(tirx.const(0, self.index))]
            )
            at = [place.picture, place.row * sh + p * dh, (place.first + r) * sw + q * dw, c]
            splat = tirx.Broadcast(tirx.BufferLoad(self.x, at), _COLUMNS)
            total = tirx.BufferLoad(acc, self._lanes(r))
            summed = tirx.call_llvm_pure_intrin("int32x32", _MULTIPLY, total, vector, splat)
            return tirx.BufferStore(acc, summed, self._lanes(r))

        def keep(r: Any) -> Any:
            return tirx.BufferStore(sums, tirx.BufferLoad(acc, self._lanes(r)), self._lanes(r))

        def words(p: Any, q: Any) -> Any:
            return loop(
                "c", self.reduced[2], self.index, lambda c: every(partial(multiply, p, q, c))
            )

        def taps(p: Any) -> Any:
            return loop("q", self.reduced[1], self.index, partial(words, p))

        return sequence(
            tirx.AllocBuffer(acc),
            tirx.AllocBuffer(sums),
            every(clear),
            loop("p", self.reduced[0], self.index, taps),
            every(keep),
            loop("r", place.pixels, self.index, partial(self._finish, place, sums)),
        )

    def _finish(self, place: _Place, sums: Any, r: Any) -> Any:
        def one(v: Any) -> Any:
            total = tirx.BufferLoad(sums, [r * _COLUMNS + v])
            channel = place.block * _COLUMNS + v
            at = [place.picture, place.row, place.first + r, channel]
            if not self.outputs:
                return tirx.BufferStore(self.anchor.output, total, at)
            found = {self.anchor.output: lambda _: total}
            return sequence(
                *(
                    tirx.BufferStore(s.output, rewrite(at_point(s, value, at), {}, found), at)
                    for s, value in self.outputs
                )
            )

        return loop("v", place.columns, self.index, one)

    def _lanes(self, row: Any) -> list[Any]:
        return [tirx.Ramp(row * _COLUMNS, tirx.const(1, self.index), _COLUMNS)]

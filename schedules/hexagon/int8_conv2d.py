"""Products of 8-bit integers in words, by ``vrmpy``: 128 multiplications in an instruction.

    for t in parallel(rows of pixels x tiles of them x blocks of 32 channels):
        acc[pixels, 32] = 0                                   # registers of 128 bytes
        for p, q, c in taps, words of channels:
            vector = w[block, p, q, c, :]
            for r in unrolled(pixels):
                acc[r, :] = vrmpy(acc[r, :], vector, splat(x[…, pixel r, c]))
        y[…, pixel r, block] = acc[r, :]

``vrmpy`` adds to each word the four products of its bytes (Hexagon V66 HVX Programmer's Reference
Manual, "Multiply by word, vector by vector"): what the sum over the bytes of a word says, exactly.
"""

from functools import partial
from typing import Any

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.kernels import index_dtype, read_stages, with_body
from pock_tvm.schedules.cpu.nest import PARALLEL, SERIAL, UNROLLED, loop, sequence, unravel
from pock_tvm.schedules.cpu.stages import extent
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
    found = read_stages(func)
    if len(found) != 1 or found[0].kernel != "int8_conv2d":
        return None
    (stage,) = found
    x, w, y = func.params
    window = [int(v) for v in stage.block.annotations["pock.window"]]
    sizes = [extent(v) for v in stage.block.iter_vars]
    return with_body(func, _nest(x, w, y, sizes, window, index_dtype(stage)))


def _nest(x: Any, w: Any, y: Any, sizes: list[int], window: list[int], index: str) -> Any:
    batch, height, width, channels, *reduced = sizes
    sh, sw, dh, dw = window
    blocks = channels // _COLUMNS

    def lanes(base: Any) -> Any:
        return tirx.Ramp(base, tirx.const(1, index), _COLUMNS)

    def tile(b: Any, i: Any, first: Any, block: Any, pixels: int) -> Any:
        size = tirx.const(pixels * _COLUMNS, index)
        acc = tirx.decl_buffer([size], "int32", "acc", scope="local")

        def place(r: Any) -> list[Any]:
            return [lanes(r * _COLUMNS)]

        def clear(r: Any) -> Any:
            zero = tirx.Broadcast(tirx.const(0, "int32"), _COLUMNS)
            return tirx.BufferStore(acc, zero, place(r))

        def multiply(p: Any, q: Any, c: Any, r: Any) -> Any:
            zero = tirx.const(0, index)
            vector = tirx.BufferLoad(w, [block, p, q, c, lanes(zero)])
            at = [b, i * sh + p * dh, (first + r) * sw + q * dw, c]
            splat = tirx.Broadcast(tirx.BufferLoad(x, at), _COLUMNS)
            total = tirx.BufferLoad(acc, place(r))
            summed = tirx.call_llvm_pure_intrin("int32x32", _MULTIPLY, total, vector, splat)
            return tirx.BufferStore(acc, summed, place(r))

        def store(r: Any) -> Any:
            total = tirx.BufferLoad(acc, place(r))
            return tirx.BufferStore(y, total, [b, i, first + r, lanes(block * _COLUMNS)])

        def every(body: Any) -> Any:
            return loop("r", pixels, index, body, UNROLLED)

        def taps(p: Any) -> Any:
            return loop(
                "q",
                reduced[1],
                index,
                lambda q: loop("c", reduced[2], index, lambda c: every(partial(multiply, p, q, c))),
            )

        return sequence(
            tirx.AllocBuffer(acc), every(clear), loop("p", reduced[0], index, taps), every(store)
        )

    def tiles(count: int, start: int, pixels: int) -> Any:
        """``count`` tiles of a row of pixels, for every row and block."""
        counts = [batch, height, count, blocks]

        def task(t: Any) -> Any:
            b, i, k, block = unravel(t, counts)
            return tile(b, i, k * pixels + start, block, pixels)

        tasks = batch * height * count * blocks
        work = tasks * pixels * _COLUMNS * reduced[0] * reduced[1] * reduced[2]
        return loop("t", tasks, index, task, PARALLEL if work >= PARALLEL_POINTS else SERIAL)

    whole, spare = divmod(width, _PIXELS)
    return sequence(
        tiles(whole, 0, _PIXELS) if whole else None,
        tiles(1, whole * _PIXELS, spare) if spare else None,
    )

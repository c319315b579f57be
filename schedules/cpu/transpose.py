"""Transpose a square of elements in registers."""

from collections.abc import Callable
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import sequence


def transpose(
    size: int, dtype: str, index: str, load: Callable[[int], Any], store: Callable[[int, Any], Any]
) -> Any:
    """Store the columns of the square whose rows are the vectors ``load(0) … load(size - 1)``.

    Interleaving row i with row i + size/2, for all i, log₂(size) times over, is a transposition.
    """

    def at(row: int) -> list[Any]:
        return [tirx.Ramp(tirx.const(row * size, index), tirx.const(1, index), size)]

    here, there = (
        tirx.decl_buffer([tirx.const(size * size, index)], dtype, "square", scope="local")
        for _ in range(2)
    )
    steps = [tirx.AllocBuffer(here), tirx.AllocBuffer(there)]
    steps += [tirx.BufferStore(here, load(row), at(row)) for row in range(size)]
    half = size // 2
    low = [tirx.const(lane, index) for i in range(half) for lane in (i, size + i)]
    high = [tirx.const(lane, index) for i in range(half, size) for lane in (i, size + i)]
    for _ in range(size.bit_length() - 1):
        for row in range(half):
            pair = [tirx.BufferLoad(here, at(r)) for r in (row, row + half)]
            steps.append(tirx.BufferStore(there, tirx.Shuffle(pair, low), at(2 * row)))
            steps.append(tirx.BufferStore(there, tirx.Shuffle(pair, high), at(2 * row + 1)))
        here, there = there, here
    steps += [store(row, tirx.BufferLoad(here, at(row))) for row in range(size)]
    return sequence(*steps)

"""Vectors over an axis of any length, without a condition in the body."""

# ruff: noqa: B023 - loop() and vector() call the body at once, no closure outlives its turn

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import VECTORIZED, loop, sequence


def pieces(width: int, lanes: int) -> list[tuple[int, int]]:
    """Cut ``width`` elements into (offset, lanes): full vectors, then halves down to one."""
    cuts, offset = [], 0
    while offset < width:
        while lanes > width - offset:
            lanes //= 2
        cuts.append((offset, lanes))
        offset += lanes
    return cuts


def vector(lanes: int, index: str, body: Callable[[Any], Any]) -> Any:
    """Return ``for v in vectorized(lanes): body(v)``."""
    return loop("v", lanes, index, body, VECTORIZED)


def cut_vectors(width: int, lanes: int, index: str, body: Callable[[Any], Any]) -> Any:
    """Run ``body(v)`` for every ``v`` below ``width``, in vectors, written one after the other."""
    return sequence(
        *(vector(n, index, lambda v: body(v + offset)) for offset, n in pieces(width, lanes))
    )


def pointwise(
    shape: Sequence[int], lanes: int, index: str, stores: Callable[[list[Any]], Sequence[Any]]
) -> Any:
    """Run ``stores(indices)`` at every point of ``shape``, the last axis in vectors.

    Every value is computed before any is stored, so that an output may share its memory with an
    input that another output still reads.
    """

    def at(depth: int, indices: list[Any]) -> Any:
        if depth == len(shape) - 1:
            return over_vectors(
                shape[-1], lanes, index, lambda c, n: simultaneously(c, n, index, indices, stores)
            )
        return loop("i", shape[depth], index, lambda i: at(depth + 1, [*indices, i]))

    return at(0, [])


def simultaneously(
    offset: Any, lanes: int, index: str, outer: list[Any], stores: Callable[[list[Any]], Any]
) -> Any:
    """One vector of ``stores``; with several, through local buffers."""
    count = len(stores([*outer, offset]))
    if count == 1:
        return vector(lanes, index, lambda v: stores([*outer, offset + v])[0])
    buffers = [
        tirx.decl_buffer([tirx.const(lanes, index)], s.buffer.dtype, "value", scope="local")
        for s in stores([*outer, offset])
    ]

    def compute(k: int, v: Any) -> Any:
        return tirx.BufferStore(buffers[k], stores([*outer, offset + v])[k].value, [v])

    def store(k: int, v: Any) -> Any:
        final = stores([*outer, offset + v])[k]
        return tirx.BufferStore(final.buffer, tirx.BufferLoad(buffers[k], [v]), final.indices)

    return sequence(
        *(tirx.AllocBuffer(b) for b in buffers),
        *(vector(lanes, index, lambda v: compute(k, v)) for k in range(count)),
        *(vector(lanes, index, lambda v: store(k, v)) for k in range(count)),
    )


def over_vectors(
    width: int, lanes: int, index: str, body: Callable[[Any, int], Any], *, unroll: int = 1
) -> Any:
    """Call ``body(offset, lanes)`` for every vector of an axis: a loop, then the pieces left.

    Args:
        width: length of the axis.
        lanes: elements of a full vector.
        index: integer type of the offsets.
        body: emits the statements of one vector.
        unroll: vectors per round of the loop.
    """
    step = lanes * unroll
    rounds = width // step

    def full(o: Any) -> Any:
        return sequence(*(body(o * step + u * lanes, lanes) for u in range(unroll)))

    rest = [
        body(tirx.const(rounds * step + offset, index), size)
        for offset, size in pieces(width - rounds * step, lanes)
    ]
    return sequence(loop("o", rounds, index, full) if rounds else None, *rest)

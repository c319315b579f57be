"""Fold an axis in several vectors, then the vectors into one element.

    acc[4 vectors] = identity
    for o in …: acc[k] = fold(acc[k], element(4·o + k)) for the four
    acc[:2] = fold(acc[:2], acc[2:]) … down to acc[0]

LLVM does not reorder floating-point additions, so a plain loop would add one element at a time. The
order depends on the length alone.
"""

# ruff: noqa: B023 - loop() and vector() call the body at once, no closure outlives its turn

from collections.abc import Callable
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import loop, sequence
from pock_tvm.schedules.cpu.steps import Step
from pock_tvm.schedules.cpu.vectors import pieces, vector

_CHAINS = 4
"""Vector accumulators: enough to hide most of the latency of one addition."""


class VectorFold:
    """The accumulators of one fold over lines of at most ``length`` elements."""

    def __init__(self, step: Step, length: int, lanes: int, index: str) -> None:
        while lanes > length:
            lanes //= 2
        assert step.fold is not None
        self.step, self.fold, self.index, self.lanes = step, step.fold, index, lanes
        self.chains = max(1, min(_CHAINS, length // lanes))
        self.acc = tirx.decl_buffer(
            [tirx.const(self.chains * lanes, index)], step.dtype, "acc", scope="local"
        )

    def start(self) -> Any:
        """Allocate the accumulators and set them to the identity."""

        def reset(place: Any) -> Any:
            return tirx.BufferStore(self.acc, self.step.identity, [place])

        resets = [
            vector(self.lanes, self.index, lambda v: reset(k * self.lanes + v))
            for k in range(self.chains)
        ]
        return sequence(tirx.AllocBuffer(self.acc), *resets)

    def line(self, length: int, element: Callable[[Any], Any]) -> Any:
        """Fold ``element(0) … element(length - 1)`` in."""
        width = self.chains * self.lanes
        rounds = length // width

        def chain(k: int, start: Any, count: int) -> Any:
            return vector(
                count,
                self.index,
                lambda v: self._combine(k * self.lanes + v, element(start + v)),
            )

        def full(o: Any) -> Any:
            return sequence(
                *(chain(k, o * width + k * self.lanes, self.lanes) for k in range(self.chains))
            )

        rest = [
            chain(k % self.chains, tirx.const(rounds * width + offset, self.index), count)
            for k, (offset, count) in enumerate(pieces(length - rounds * width, self.lanes))
        ]
        return sequence(loop("o", rounds, self.index, full) if rounds else None, *rest)

    def finish(self) -> Any:
        """Fold the accumulators into the first element, halving."""
        parts, count = [], self.chains * self.lanes
        while count > 1:
            half = 1 << ((count - 1).bit_length() - 1)
            parts.append(
                vector(
                    count - half,
                    self.index,
                    lambda v: self._combine(v, tirx.BufferLoad(self.acc, [half + v])),
                )
            )
            count = half
        return sequence(*parts) if parts else None

    @property
    def result(self) -> Any:
        """Return the first accumulator."""
        return tirx.BufferLoad(self.acc, [tirx.const(0, self.index)])

    def _combine(self, place: Any, value: Any) -> Any:
        return tirx.BufferStore(
            self.acc, self.fold(tirx.BufferLoad(self.acc, [place]), value), [place]
        )

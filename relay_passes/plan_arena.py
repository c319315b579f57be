"""Give every arena tensor of a step an offset, so that tensors that live together do not overlap.

Best fit: take the tensors in some order; put each into the smallest gap, among those already placed
that live at the same time, in which it fits, else behind them. Several orders are tried (largest
first, longest-lived first, …) and the smallest arena kept; packing by decreasing size is the usual
choice for static memory planning (Pisarchyk & Lee 2020, arXiv:2001.03288). The lower bound is the
largest live set of the order of calls.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pock_tvm.relay_passes.step import Step, align, live_intervals, peak_live_bytes


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets in bytes by tensor, the arena they need, and the least any plan would need."""

    offsets: Mapping[str, int]
    arena_bytes: int
    lower_bound_bytes: int


@dataclass(frozen=True)
class _Block:
    name: str
    size: int
    start: int
    end: int

    def meets(self, other: "_Block") -> bool:
        return self.start <= other.end and other.start <= self.end


_ORDERS: tuple[Callable[[_Block], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.start),
    lambda b: (-b.size * (b.end - b.start + 1), b.start),
    lambda b: (b.start - b.end, -b.size),
    lambda b: (b.start, -b.size),
    lambda b: (-b.end, -b.size),
)


def plan_arena(step: Step, fixed: Mapping[str, int] | None = None) -> ArenaPlan:
    """Place the arena tensors of ``step``.

    Args:
        step: in its final order.
        fixed: offsets that another entry point has already given to tensors of the same name.
    """
    blocks = [
        _Block(name, align(step.tensors[name].bytes), start, end)
        for name, (start, end) in live_intervals(step).items()
    ]
    pinned = {b.name: fixed[b.name] for b in blocks if fixed and b.name in fixed}
    plans = [_place(blocks, pinned, order) for order in _ORDERS]
    offsets = min(plans, key=lambda plan: _extent(blocks, plan))
    return ArenaPlan(offsets, _extent(blocks, offsets), peak_live_bytes(step))


def _extent(blocks: list[_Block], offsets: Mapping[str, int]) -> int:
    return max((offsets[b.name] + b.size for b in blocks), default=0)


def _place(
    blocks: list[_Block], pinned: Mapping[str, int], order: Callable[[_Block], tuple[int, ...]]
) -> dict[str, int]:
    offsets = dict(pinned)
    placed = [b for b in blocks if b.name in pinned]
    for block in sorted((b for b in blocks if b.name not in pinned), key=order):
        taken = sorted(
            (offsets[other.name], offsets[other.name] + other.size)
            for other in placed
            if other.meets(block)
        )
        offsets[block.name] = _best_gap(taken, block.size)
        placed.append(block)
    return offsets


def _best_gap(taken: list[tuple[int, int]], size: int) -> int:
    """Return the offset of the smallest gap of at least ``size`` bytes, or the end."""
    best, best_slack, cursor = -1, -1, 0
    for begin, end in taken:
        slack = begin - cursor - size
        if slack >= 0 and (best < 0 or slack < best_slack):
            best, best_slack = cursor, slack
        cursor = max(cursor, end)
    return cursor if best < 0 else best

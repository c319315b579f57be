"""Give every arena tensor of a step an offset, so that tensors that live together do not overlap.

Best fit: take the tensors in some order; put each into the smallest gap, among those already placed
that live at the same time, in which it fits, else behind them. Several orders are tried (largest
first, longest-lived first, …) and the smallest arena kept; packing by decreasing size is the usual
choice for static memory planning (Pisarchyk & Lee 2020, arXiv:2001.03288). The lower bound is the
largest live set of the order of calls. Tensors that are written one over the other are one block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pock_tvm.relay_passes.step import Block, Step, blocks, peak_live_bytes


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets in bytes by tensor, the arena they need, and the least any plan would need."""

    offsets: Mapping[str, int]
    arena_bytes: int
    lower_bound_bytes: int


_ORDERS: tuple[Callable[[Block], tuple[int, ...]], ...] = (
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
    needed = blocks(step)
    pinned = {b: fixed[b.tensors[0]] for b in needed if fixed and b.tensors[0] in fixed}
    for block, offset in pinned.items():
        for other, start in pinned.items():
            apart = offset >= start + other.size or start >= offset + block.size
            assert block is other or apart or not block.meets(other), (block, other)
    plans = [_place(needed, pinned, order) for order in _ORDERS]
    offsets = min(plans, key=_extent)
    by_tensor = {name: offset for block, offset in offsets.items() for name in block.tensors}
    return ArenaPlan(by_tensor, _extent(offsets), peak_live_bytes(step))


def _extent(offsets: Mapping[Block, int]) -> int:
    return max((offset + block.size for block, offset in offsets.items()), default=0)


def _place(
    needed: list[Block], pinned: Mapping[Block, int], order: Callable[[Block], tuple[int, ...]]
) -> dict[Block, int]:
    offsets = dict(pinned)
    for block in sorted((b for b in needed if b not in pinned), key=order):
        taken = sorted(
            (offset, offset + other.size) for other, offset in offsets.items() if other.meets(block)
        )
        offsets[block] = _best_gap(taken, block.size)
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

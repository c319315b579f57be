"""Give every arena tensor of a step an offset, so that tensors that live together do not overlap.

Best fit: take the tensors in some order; put each into the smallest gap, among those already placed
that live at the same time, in which it fits, else behind them. Several orders are tried (largest
first, longest-lived first, …) and the smallest arena kept; packing by decreasing size is the usual
choice for static memory planning (Pisarchyk & Lee 2020, arXiv:2001.03288). Where the best of them
stays above the lower bound, the largest live set of the order of calls, a local search goes on from
it: the block that sticks out takes an earlier turn, again and again. Tensors that are written one
over the other are one block.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pock_tvm.relay_passes.step import Block, Step, blocks, live_bytes, peak_live_bytes


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets in bytes by tensor, the arena they need, and the least any plan would need."""

    offsets: Mapping[str, int]
    arena_bytes: int
    lower_bound_bytes: int


SEARCH_ROUNDS = 200
"""Placements that the local search tries; Proxyless's 300 blocks take about 16 ms each."""

WORSE_ACCEPTED = 0.4
"""Share of the placements that are gone on from although they are larger."""

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
    free, bound = [b for b in needed if b not in pinned], peak_live_bytes(step)
    orders = [_fullest_first(free, live_bytes(step)), *(sorted(free, key=k) for k in _ORDERS)]
    plans = [_place(order, pinned) for order in orders]
    best = min(range(len(plans)), key=lambda i: _extent(plans[i]))
    offsets = _search(orders[best], plans[best], pinned, bound)
    if best and _extent(offsets) > bound:
        second = _search(orders[0], plans[0], pinned, bound)
        offsets = min(offsets, second, key=_extent)
    by_tensor = {name: offset for block, offset in offsets.items() for name in block.tensors}
    return ArenaPlan(by_tensor, _extent(offsets), bound)


def _fullest_first(free: list[Block], live: list[int]) -> list[Block]:
    """Sort by the bytes live at the fullest call that a block survives, then by size.

    What is live at the peak then stands without gaps, and everything else goes around it. Not
    always the best to begin with, but where the search goes on from it, it seldom gets stuck.
    """
    fullest = {b: max(live[b.start : b.end + 1]) for b in free}
    return sorted(free, key=lambda b: (-fullest[b], -b.size, b.start))


def _search(
    order: list[Block], offsets: dict[Block, int], pinned: Mapping[Block, int], bound: int
) -> dict[Block, int]:
    """Return the best placement found from ``order`` on; the same one in every run."""
    chance, best = random.Random(0), offsets
    for _ in range(SEARCH_ROUNDS):
        if not order or _extent(best) <= bound:
            break
        highest = max(order, key=lambda b: offsets[b] + b.size)
        turn = order.index(highest)
        changed = [*order[:turn], *order[turn + 1 :]]
        changed.insert(chance.randrange(turn) if turn else 0, highest)
        candidate = _place(changed, pinned)
        if _extent(candidate) <= _extent(offsets) or chance.random() < WORSE_ACCEPTED:
            order, offsets = changed, candidate
        if _extent(candidate) < _extent(best):
            best = candidate
    return best


def _extent(offsets: Mapping[Block, int]) -> int:
    return max((offset + block.size for block, offset in offsets.items()), default=0)


def _place(order: list[Block], pinned: Mapping[Block, int]) -> dict[Block, int]:
    offsets = dict(pinned)
    for block in order:
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

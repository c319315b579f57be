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
"""Placements that the local search tries; MobileNetV2's 600 blocks take about 5 ms each."""

GOOD_ENOUGH = 1.03
"""Arena over lower bound above which it tries three times as many: ResNet-50's full step, batch 1,
comes from 1.035 to 1.025."""

WORSE_ACCEPTED = 0.4
"""Share of the placements that are gone on from although they are larger."""

_BITS = 48
_END = (1 << _BITS) - 1
"""Of a place: bits of its start and end, and those of its end."""

_ORDERS: tuple[Callable[[Block], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.start),
    lambda b: (-b.size * (b.end - b.start + 1), b.start),
    lambda b: (b.start - b.end, -b.size),
    lambda b: (b.start, -b.size),
    lambda b: (-b.end, -b.size),
)


def plan_arena(
    step: Step, fixed: Mapping[str, int] | None = None, *, rounds: int | None = None
) -> ArenaPlan:
    """Place the arena tensors of ``step``.

    Args:
        step: in its final order.
        fixed: offsets that another entry point has already given to tensors of the same name.
        rounds: placements that the local search tries from each order that it goes on from, three
            times as many where the arena stays large; ``SEARCH_ROUNDS``, where left out.
    """
    needed = blocks(step)
    pinned = {b: fixed[b.tensors[0]] for b in needed if fixed and b.tensors[0] in fixed}
    for block, offset in pinned.items():
        for other, start in pinned.items():
            apart = offset >= start + other.size or start >= offset + block.size
            assert block is other or apart or not block.meets(other), (block, other)
    free, bound = [b for b in needed if b not in pinned], peak_live_bytes(step)
    packing = _Packing(needed, {needed.index(b): offset for b, offset in pinned.items()})
    orders = [_fullest_first(free, live_bytes(step)), *(sorted(free, key=k) for k in _ORDERS)]
    turns = [[packing.number[b] for b in order] for order in orders]
    plans = [packing.place(order) for order in turns]
    best = min(range(len(plans)), key=lambda i: packing.extent(plans[i]))
    offsets = plans[best]
    rounds = SEARCH_ROUNDS if rounds is None else rounds
    for tries, enough in ((rounds, bound), (3 * rounds, GOOD_ENOUGH * bound)):
        for start in (best, 0):
            if packing.extent(offsets) > enough:
                found = _search(packing, turns[start], plans[start], tries, enough)
                offsets = min(offsets, found, key=packing.extent)
    by_tensor = {t: offsets[i] for i, block in enumerate(needed) for t in block.tensors}
    return ArenaPlan(by_tensor, packing.extent(offsets), bound)


def _fullest_first(free: list[Block], live: list[int]) -> list[Block]:
    """Sort by the bytes live at the fullest call that a block survives, then by size.

    What is live at the peak then stands without gaps, and everything else goes around it. Not
    always the best to begin with, but where the search goes on from it, it seldom gets stuck.
    """
    fullest = {b: max(live[b.start : b.end + 1]) for b in free}
    return sorted(free, key=lambda b: (-fullest[b], -b.size, b.start))


class _Packing:
    """The blocks by number, and which of them may not overlap."""

    def __init__(self, blocks: list[Block], pinned: Mapping[int, int]) -> None:
        self.number = {block: i for i, block in enumerate(blocks)}
        self.sizes = [block.size for block in blocks]
        self.pinned = pinned
        self.meeting = [
            [j for j, other in enumerate(blocks) if j != i and other.meets(block)]
            for i, block in enumerate(blocks)
        ]

    def place(self, order: list[int], before: list[int] | None = None, same: int = 0) -> list[int]:
        """Return an offset for each block.

        Args:
            order: numbers of the blocks that are not pinned, in the order of their turns.
            before: offsets of another order, whose first ``same`` turns are those of ``order``.
            same: how many.
        """
        places = [-1] * len(self.sizes)
        for block, offset in self.pinned.items():
            places[block] = self._place(block, offset)
        if before is not None:
            for block in order[:same]:
                places[block] = self._place(block, before[block])
        for block in order[same:]:
            taken = [place for j in self.meeting[block] if (place := places[j]) >= 0]
            taken.sort()
            places[block] = self._place(block, _best_gap(taken, self.sizes[block]))
        return [place >> _BITS for place in places]

    def _place(self, block: int, offset: int) -> int:
        """Return start and end as one number, which Python sorts and compares faster than two."""
        return offset << _BITS | offset + self.sizes[block]

    def extent(self, offsets: list[int]) -> int:
        """Return the size of the arena."""
        return max((o + size for o, size in zip(offsets, self.sizes, strict=True)), default=0)


def _search(
    packing: _Packing, order: list[int], offsets: list[int], rounds: int, enough: float
) -> list[int]:
    """Return the best placement found from ``order`` on; the same one in every run."""
    chance, best = random.Random(0), offsets
    least = packing.extent(best)
    for _ in range(rounds):
        if not order or least <= enough:
            break
        turn = max(range(len(order)), key=lambda t: offsets[order[t]] + packing.sizes[order[t]])
        earlier = chance.randrange(turn) if turn else 0
        changed = [*order[:turn], *order[turn + 1 :]]
        changed.insert(earlier, order[turn])
        candidate = packing.place(changed, offsets, earlier)
        extent = packing.extent(candidate)
        if extent <= packing.extent(offsets) or chance.random() < WORSE_ACCEPTED:
            order, offsets = changed, candidate
        if extent < least:
            best, least = candidate, extent
    return best


def _best_gap(taken: list[int], size: int) -> int:
    """Return the start of the smallest gap of at least ``size`` bytes, or where all places end."""
    best, least, cursor = -1, 1 << _BITS, 0
    for place in taken:
        gap = (place >> _BITS) - cursor
        if size <= gap < least:
            best, least = cursor, gap
        end = place & _END
        if end > cursor:
            cursor = end
    return cursor if best < 0 else best

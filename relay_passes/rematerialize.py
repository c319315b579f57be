"""Drop residuals and compute them again where that lowers the peak.

Before:  r = relu(y); …forward…, peak, …backward…; w̄ = grad(r, z̄); γ̄ = sum(y, z̄)
After:   r = relu(y); …forward…, peak, …backward…; r' = relu(y); w̄ = grad(r', z̄); γ̄ = sum(y, z̄)

At the call where most bytes are live, the tensors that wait there for a later reader are the
candidates. One is made again right before that reader, or before the update of a weight that it is
made of, together with whatever it needs that is not at hand by then. The one that frees most bytes
for the least work goes first, again and again until nothing lowers the peak: the points on the way
are what memory costs in time. (Chen et al. 2016, arXiv:1604.06174, keep every k-th activation;
bytes freed per unit of work is the measure of Kirisame et al., ICLR 2021.) Run it on the final
order of calls: every copy stands where its reader needs it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pock_tvm.relay_passes.step import KernelCall, Step, align, live_bytes, live_intervals

DEEPEST_CHAIN = 8
"""Calls that may be repeated to get one tensor back."""


@dataclass(frozen=True)
class Tradeoff:
    """A step that computes some tensors again, the bytes it needs, and what that costs."""

    step: Step
    peak_bytes: int
    repeated: float
    """Cost of the repeated calls, in the unit of the costs given."""


def tradeoffs(step: Step, costs: Mapping[str, float]) -> list[Tradeoff]:
    """Return ``step`` itself, then versions that need fewer bytes and repeat more, one by one.

    Args:
        step: in its final order.
        costs: time of each kernel, in any unit.
    """
    repeated, refused = 0.0, set[tuple[str, int]]()
    intervals = live_intervals(step)
    live = live_bytes(step, intervals)
    found = [Tradeoff(step, max(live), 0.0)]
    while True:
        time = live.index(max(live))
        recipes = [r for r in _recipes(step, time, costs, intervals) if r.key(step) not in refused]
        if not recipes:
            return found
        best = max(recipes, key=lambda r: (r.freed_bytes / max(r.cost, 1e-30), r.freed_bytes))
        candidate = _apply(step, best)
        after_intervals = live_intervals(candidate)
        after = live_bytes(candidate, after_intervals)
        # Fewer calls at the peak is progress too; anything less could go round in circles.
        if (max(after), after.count(max(after))) >= (live[time], live.count(live[time])):
            refused.add(best.key(step))
            continue
        step, intervals, live = candidate, after_intervals, after
        repeated += best.cost
        if max(after) < found[-1].peak_bytes:
            found.append(Tradeoff(step, max(after), repeated))


@dataclass(frozen=True)
class _Recipe:
    """How to get a tensor back right before the call ``before``."""

    tensor: str
    calls: tuple[KernelCall, ...]
    before: int
    freed_bytes: int
    cost: float

    def key(self, step: Step) -> tuple[str, int]:
        """Return what stays the same when other recipes are applied before this one."""
        return self.tensor, len(step.calls) - self.before


def _recipes(
    step: Step,
    time: int,
    costs: Mapping[str, float],
    intervals: Mapping[str, tuple[int, int]],
) -> list[_Recipe]:
    """Return a way back for each tensor that waits during the call ``time``."""
    producer: dict[str, int] = {}
    writes: dict[str, list[int]] = {}
    for at, call in enumerate(step.calls):
        for name in call.writes:
            producer.setdefault(name, at)
            writes.setdefault(name, []).append(at)
    at_hand = {*step.inputs, *step.outputs, *step.calls[time].arguments}
    waiting = dict.fromkeys(
        name
        for name, (start, end) in intervals.items()
        if start <= time <= end and name not in at_hand
    )
    next_use: dict[str, int] = {}
    for at in range(time + 1, len(step.calls)):
        for name in step.calls[at].arguments:
            if name in waiting:
                next_use.setdefault(name, at)
    found = []
    for name in waiting:
        way = _way_back(step, name, (time, next_use[name]), intervals, producer, writes)
        if way is None:
            continue
        chain, before = way
        # What the chain reads must live until then: at the peak that may be new.
        held = {
            n
            for at in chain
            for n in step.calls[at].reads
            if step.in_arena(n) and intervals[n][1] < time and producer.get(n) not in chain
        }
        freed = align(step.tensors[name].bytes)
        freed -= sum(align(step.tensors[n].bytes) for n in held)
        if freed > 0:
            cost = sum(costs[step.calls[at].kernel] for at in chain)
            calls = tuple(step.calls[at] for at in chain)
            found.append(_Recipe(name, calls, before, freed, cost))
    return found


def _way_back(
    step: Step,
    name: str,
    between: tuple[int, int],
    intervals: Mapping[str, tuple[int, int]],
    producer: Mapping[str, int],
    writes: Mapping[str, Sequence[int]],
) -> tuple[list[int], int] | None:
    """Return the calls that make ``name`` again, in order, and the call to repeat them before.

    That is the last of ``between`` (the peak, the next reader), or else the first behind the peak
    that overwrites what one of them reads: a weight that learns.
    """
    time, before = between
    while before > time:
        chain = _chain(step, name, before, intervals, producer, writes)
        if chain is None:
            return None
        read = [(at, n) for at in chain for n in step.calls[at].reads]
        changed = [w for at, n in read for w in writes.get(n, ()) if at < w < before]
        if not changed:
            return chain, before
        before = min(changed)
    return None


def _chain(
    step: Step,
    name: str,
    before: int,
    intervals: Mapping[str, tuple[int, int]],
    producer: Mapping[str, int],
    writes: Mapping[str, Sequence[int]],
) -> list[int] | None:
    """Return the calls that make ``name`` again from what lives at the call ``before``, in order.

    None where one of them writes in place.
    """
    chain: set[int] = set()
    wanted = [name]
    while wanted:
        at = producer.get(wanted.pop())
        if at is None:
            return None
        call = step.calls[at]
        if call.overwrites or len(call.writes) != 1 or not step.in_arena(call.writes[0]):
            return None
        if len(writes[call.writes[0]]) > 1:
            return None  # made in parts
        chain.add(at)
        if len(chain) > DEEPEST_CHAIN:
            return None
        for read in call.reads:
            lives = intervals.get(read)  # weights have no interval, they are always there
            if lives is not None and lives[1] < before and read not in step.inputs:
                wanted.append(read)
    return sorted(chain)


def _apply(step: Step, recipe: _Recipe) -> Step:
    """Insert the repeated calls, and let all later readers read the copy."""
    taken = step.tensors
    copies: dict[str, str] = {}
    for call in recipe.calls:
        (name,) = call.writes
        base, count = name, 1
        while f"{base}.again{count}" in taken:
            count += 1
        copies[name] = f"{base}.again{count}"
    tensors = {**taken, **{new: replace(taken[old], name=new) for old, new in copies.items()}}
    again = [call.renamed(copies) for call in recipe.calls]
    later = {recipe.tensor: copies[recipe.tensor]}
    calls = [
        *step.calls[: recipe.before],
        *again,
        *(
            call.renamed(later) if recipe.tensor in call.arguments else call
            for call in step.calls[recipe.before :]
        ),
    ]
    return replace(step, tensors=tensors, calls=tuple(calls))

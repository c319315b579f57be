"""Reorder the kernel calls of a step so that fewer bytes are live at once.

The order in which the graph was built is one candidate; greedy list scheduling is the other: of the
calls whose operands are ready, run the one that changes the live bytes least (an update that frees
its gradient comes at once, a residual that nobody needs yet comes late), the earlier one on a tie.
The candidate with the lower peak wins, the original on a tie.

In both, a call that reads weights and constants alone (the slice of a weight that an update is
about to change, say) comes right before whoever wants its result: nothing dies by running it early.

A call that overwrites a weight runs after every other reader of the old value.
"""

from collections import defaultdict

from pock_tvm.relay_passes.step import KernelCall, Step, align, peak_live_bytes


def reorder_for_memory(step: Step) -> Step:
    """Return ``step`` in the best order found; values do not change."""
    candidates = [step, step.with_calls(_list_schedule(step))]
    return min((_late_reads(candidate) for candidate in candidates), key=peak_live_bytes)


def dependencies(step: Step) -> list[set[int]]:
    """Return for each call the calls that must run before it.

    Reading after writing, and writing after every read or write of the old value.
    """
    writer: dict[str, int] = {}
    readers: dict[str, list[int]] = defaultdict(list)
    before: list[set[int]] = []
    for time, call in enumerate(step.calls):
        needs = {writer[name] for name in call.reads if name in writer}
        for name in call.writes:
            needs.update(readers[name])
            if name in writer:
                needs.add(writer[name])
        for name in call.reads:
            readers[name].append(time)
        for name in call.writes:
            writer[name] = time
        before.append(needs - {time})
    return before


def _late_reads(step: Step) -> Step:
    """Put calls that read nothing from the arena right before the first call that needs them."""
    before = dependencies(step)
    first_need = dict.fromkeys(range(len(before)), len(before))
    for time in reversed(range(len(before))):
        for need in before[time]:
            first_need[need] = min(first_need[need], time)
    early: dict[int, list[int]] = defaultdict(list)
    moved = set()
    for time, call in enumerate(step.calls):
        is_free = not any(step.in_arena(name) for name in call.reads)
        if is_free and all(step.in_arena(name) for name in call.writes):
            early[first_need[time]].append(time)
            moved.add(time)
    order: list[KernelCall] = []

    def place(time: int) -> None:
        for one in early[time]:
            place(one)
        if time < len(before):
            order.append(step.calls[time])

    for time in range(len(before) + 1):
        if time not in moved:
            place(time)
    return step.with_calls(order)


def _list_schedule(step: Step) -> list[KernelCall]:
    before = dependencies(step)
    after: list[list[int]] = [[] for _ in before]
    for time, needs in enumerate(before):
        for need in needs:
            after[need].append(time)
    waiting = [len(needs) for needs in before]
    unread: dict[str, int] = defaultdict(int)
    for call in step.calls:
        for name in set(call.reads):
            unread[name] += 1
    kept = set(step.outputs)
    produced = set(step.inputs)

    def growth(time: int) -> int:
        """Return by how many bytes the live set changes once this call has run."""
        call = step.calls[time]
        change = sum(
            align(step.tensors[name].bytes)
            for name in call.writes
            if step.in_arena(name) and name not in produced and (unread[name] or name in kept)
        )
        for name in set(call.reads):
            if step.in_arena(name) and unread[name] == 1 and name not in kept:
                change -= align(step.tensors[name].bytes)
        return change

    ready = {time for time, count in enumerate(waiting) if count == 0}
    order: list[KernelCall] = []
    while ready:
        # What a call frees changes as other readers run: the keys of a heap would go stale.
        best = min(ready, key=lambda time: (growth(time), time))
        ready.remove(best)
        call = step.calls[best]
        order.append(call)
        produced.update(call.writes)
        for name in set(call.reads):
            unread[name] -= 1
        for time in after[best]:
            waiting[time] -= 1
            if waiting[time] == 0:
                ready.add(time)
    assert len(order) == len(step.calls), "the step has a cycle"
    return order

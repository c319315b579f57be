"""In how many parts the frozen prefix of each entry point takes its samples.

Nothing of the prefix is kept but what the rest reads, so its peak shrinks with the samples that it
takes at once. It is split where the prefix would set the size of the arena, into as few parts as
bring it below what the rest needs anyway: every part adds a call of each of its kernels.
"""

from tvm import tirx

from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.plan import OverBudgetError, Plan, find_frontiers
from pock_tvm.relay_passes.append_optimizer import LEARNING_RATE
from pock_tvm.relay_passes.share_kernels import share_kernels
from pock_tvm.relay_passes.step import Step, blocks, live_bytes
from pock_tvm.targets import TargetSpec

LEAST_GAIN = 0.05
"""Share of the arena that splitting has to save."""


def plan_in_parts(
    graphs: Graphs, spec: TargetSpec, samples: int, memory_budget: int | None
) -> tuple[Graphs, dict[str, tirx.PrimFunc], Plan]:
    """Plan the entry points, their prefixes in as many parts as that takes.

    Args:
        graphs: with every prefix in one part.
        spec: machine by whose estimated times memory is bought.
        samples: in a batch.
        memory_budget: bytes of weights, optimizer state and transients together.

    Returns:
        The graphs with their prefixes split, their kernels, and the plan.

    Raises:
        MemoryBudgetError: the budget cannot be met.
    """
    steps, kernels = share_kernels(graphs.steps)
    frontiers = find_frontiers(steps, kernels, spec)
    plan = Plan.make(frontiers, graphs, kernels, rough=memory_budget is not None)
    transients = None
    if memory_budget is not None:
        transients = memory_budget - plan.frozen_bytes - plan.state_bytes
    parts = choose_parts(plan, samples, transients)
    if graphs.micro_batches > 1:
        parts.pop("train_step", None)  # its prefix runs in those
    if not parts and memory_budget is None:
        return graphs, kernels, plan
    while True:
        split = graphs.split(parts) if parts else graphs
        steps, kernels = share_kernels(split.steps)
        frontiers = find_frontiers(steps, kernels, spec, frontiers)
        try:
            return split, kernels, Plan.make(frontiers, split, kernels, memory_budget)
        except OverBudgetError as error:
            # Prediction may stand worse among the places of this step than among the rough ones.
            more = [k for k in _divisors(samples) if k > parts.get(error.entry, 1)]
            if error.entry == "train_step" or not more:
                raise
            parts[error.entry] = more[0]


def choose_parts(plan: Plan, samples: int, transients: int | None) -> dict[str, int]:
    """Return the parts of each entry point whose prefix is to be split.

    Args:
        plan: with every prefix in one part.
        samples: in a batch.
        transients: bytes that a memory budget leaves for the arena.
    """
    arena = max(a.arena_bytes for a in plan.arenas.values())
    prefixes = {step.name: _prefix_length(step) for step in plan.steps}
    rest = max(max(live_bytes(s)[prefixes[s.name] :], default=0) for s in plan.steps)
    wanted = rest if transients is None else min(rest, transients)
    if arena <= wanted * (1 + LEAST_GAIN):
        return {}
    chosen = {}
    for step in plan.steps:
        # Places that are shared with another entry point may cost it more than is live.
        loss = plan.arenas[step.name].arena_bytes / max(live_bytes(step))
        loss = loss if loss > 1 + LEAST_GAIN else 1.0
        peaks = {k: loss * _peak(step, prefixes[step.name], k) for k in _divisors(samples)}
        fitting = [k for k, peak in peaks.items() if peak <= wanted]
        chosen[step.name] = fitting[0] if fitting else min(peaks, key=lambda k: (peaks[k], k))
    return {name: parts for name, parts in chosen.items() if parts > 1}


def _divisors(samples: int) -> list[int]:
    return [k for k in range(1, samples + 1) if samples % k == 0]


def _prefix_length(step: Step) -> int:
    """Return how many calls run before the first of samples that depends on what the step changes.

    Of samples: an optimizer that counts its steps, as AdamW does, counts before all else.
    """
    changed = {name for call in step.calls for name in call.writes if not step.in_arena(name)}
    of_samples = {*step.inputs} - {LEARNING_RATE}
    for time, call in enumerate(step.calls):
        if of_samples & {*call.reads}:
            if changed & {*call.reads, *call.writes}:
                return time
            of_samples.update(call.writes)
    return len(step.calls)


def _peak(step: Step, length: int, parts: int) -> float:
    """Estimate the peak of the prefix in parts: what only the prefix has shrinks."""
    change = [0.0] * (length + 1)
    public = {*step.inputs, *step.outputs}
    for block in blocks(step):
        if block.start < length:
            stays = block.end >= length or public & {*block.tensors}
            change[block.start] += block.size / (1 if stays else parts)
            change[min(block.end + 1, length)] -= block.size / (1 if stays else parts)
    total = peak = 0.0
    for one in change[:length]:
        total += one
        peak = max(peak, total)
    return peak

"""Where every tensor of an artifact lies, and in which order the kernels run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tvm import tirx

from pock_tvm.compilation.costs import BYTES_PER_CYCLE_AGAIN, estimate_cycles, kernel_flops
from pock_tvm.compilation.graphs import Graphs
from pock_tvm.errors import MemoryBudgetError
from pock_tvm.relay_passes.plan_arena import ArenaPlan, plan_arena
from pock_tvm.relay_passes.rematerialize import Tradeoff, tradeoffs
from pock_tvm.relay_passes.reorder_for_memory import reorder_for_memory
from pock_tvm.relay_passes.step import Step, align, peak_live_bytes
from pock_tvm.schedules import overwritable_inputs
from pock_tvm.targets import TargetSpec

SMALL_PRICE = 0.03
"""Share of a step's time that is given for memory where no budget asks for more."""

SMALL_PUBLIC = 0.005
"""Share of the largest live set that tensors with a place in all entry points may take at the
bottom of the arena; in its middle, a loss of four bytes parts what another entry point wants whole.
"""


@dataclass(frozen=True)
class Price:
    """What a number of bytes costs in time."""

    total_bytes: int
    """Weights, optimizer state and the transients of the largest entry point."""
    cycles: float
    """Of ``train_step`` on one core, by estimate, repeated calls among them."""
    micro_batches: int = 1
    """In how many parts the step takes its batch."""


class OverBudgetError(MemoryBudgetError):
    """What would have been possible instead.

    Attributes:
        entry: the entry point that needs too much.
        least_bytes: what a budget has to be for it.
        prices: the frontier of that entry point.
    """

    def __init__(
        self, message: str, entry: str, least_bytes: int, prices: tuple[Price, ...]
    ) -> None:
        super().__init__(message)
        self.entry, self.least_bytes, self.prices = entry, least_bytes, prices


@dataclass(frozen=True)
class Plan:
    """Ordered steps, and the offset of every tensor."""

    steps: list[Step]
    arenas: Mapping[str, ArenaPlan]
    frozen: Mapping[str, int]
    state: Mapping[str, int]
    frozen_bytes: int
    trainable_bytes: int
    state_bytes: int

    flops: Mapping[str, int]
    """Of one call of each kernel."""
    prices: tuple[Price, ...]
    """The whole frontier of ``train_step``, from no repetition to the fewest bytes."""
    price: Price
    """Where on it this plan stands."""

    @classmethod
    def make(
        cls,
        steps: list[Step],
        graphs: Graphs,
        kernels: Mapping[str, tirx.PrimFunc],
        spec: TargetSpec,
        memory_budget: int | None = None,
    ) -> "Plan":
        """Order each step's calls, then give every tensor its place.

        What callers see (inputs, outputs) has one place in all steps.

        Args:
            steps: the entry points, ``train_step`` among them.
            graphs: whose weights and slots are laid out.
            kernels: what the steps call, not yet scheduled.
            spec: machine by whose estimated times memory is bought.
            memory_budget: bytes of weights, optimizer state and transients together.

        Raises:
            MemoryBudgetError: the budget cannot be met.
        """
        learned = (*graphs.trainable, *graphs.statistics)
        in_state = set(learned)
        tensors = {n: t for step in steps for n, t in step.tensors.items()}
        sizes = {n: v.nbytes for n, v in graphs.values.items()}
        frozen, frozen_bytes = _lay_out({n: s for n, s in sizes.items() if n not in in_state})
        state, trainable_bytes = _lay_out({n: sizes[n] for n in learned})
        slots, slot_bytes = _lay_out({n: tensors[n].bytes for n in graphs.slots})
        state.update({n: trainable_bytes + offset for n, offset in slots.items()})
        resident = frozen_bytes + trainable_bytes + slot_bytes

        overwritable = {name: overwritable_inputs(func) for name, func in kernels.items()}
        flops = kernel_flops(kernels)
        cycles = estimate_cycles(kernels, flops, spec)
        again = estimate_cycles(kernels, flops, spec, bytes_per_cycle=BYTES_PER_CYCLE_AGAIN)
        public = small_public_places(steps)
        ordered, arenas = [], {}
        prices: tuple[Price, ...] = ()
        price: Price | None = None
        for step in steps:
            choices = tradeoffs(reorder_for_memory(_with_overwrites(step, overwritable)), again)
            whole = sum(cycles[call.kernel] for call in step.calls) or 1.0
            budget = None if memory_budget is None else memory_budget - resident
            choice, plan = _choose(choices, whole, budget, public)

            def priced(choice: Tradeoff, size: int, whole: float = whole) -> Price:
                return Price(resident + size, whole + choice.repeated, graphs.micro_batches)

            if plan is None:
                least = resident + plan_arena(choices[-1].step, public).arena_bytes
                raise OverBudgetError(
                    f"{step.name} needs {least:,} bytes at the least, the memory budget is"
                    f" {memory_budget:,}; make the batch smaller or let fewer tensors learn",
                    step.name,
                    least,
                    tuple(priced(c, c.peak_bytes) for c in choices),
                )
            ordered.append(choice.step)
            arenas[step.name] = plan
            public.update({n: plan.offsets[n] for n in (*step.inputs, *step.outputs)})
            if step.name == "train_step":
                prices = tuple(priced(c, size) for c, size in _sizes(choices, choice, plan))
                price = priced(choice, plan.arena_bytes)
        assert price is not None, "there is always a train_step"
        return cls(
            ordered,
            arenas,
            frozen,
            state,
            frozen_bytes,
            trainable_bytes,
            trainable_bytes + slot_bytes,
            flops,
            prices,
            price,
        )

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena: those of the entry point that needs the most."""
        return max(plan.arena_bytes for plan in self.arenas.values())

    def more_time(self, price: Price) -> float:
        """Return what share of the fastest step's time a point of the frontier costs."""
        return price.cycles / self.prices[0].cycles - 1

    def offsets_of(self, step: Step) -> dict[str, int]:
        """Return the offset of every tensor of a step in its region."""
        return {**self.frozen, **self.state, **self.arenas[step.name].offsets}


def plan_step(step: Step, kernels: Mapping[str, tirx.PrimFunc], spec: TargetSpec) -> ArenaPlan:
    """Plan one entry point by itself, without a budget, as ``Plan.make`` does."""
    overwritable = {name: overwritable_inputs(func) for name, func in kernels.items()}
    flops = kernel_flops(kernels)
    cycles = estimate_cycles(kernels, flops, spec)
    again = estimate_cycles(kernels, flops, spec, bytes_per_cycle=BYTES_PER_CYCLE_AGAIN)
    choices = tradeoffs(reorder_for_memory(_with_overwrites(step, overwritable)), again)
    whole = sum(cycles[call.kernel] for call in step.calls) or 1.0
    _, plan = _choose(choices, whole, None, {})
    assert plan is not None
    return plan


def small_public_places(steps: Sequence[Step]) -> dict[str, int]:
    """Place small inputs and outputs of the first entry point side by side at the bottom.

    The plan of the entry point that has them first places all others: large ones are worth sharing
    with what lives before or after, and only such a plan knows what else is public there.
    """
    first = steps[0]
    sizes = {n: first.tensors[n].bytes for n in (*first.inputs, *first.outputs)}
    allowed = SMALL_PUBLIC * max(peak_live_bytes(s) for s in steps)
    places, end = {}, 0
    for name in sorted(sizes, key=lambda n: (sizes[n], n)):
        if end + align(sizes[name]) > allowed:
            break
        places[name] = end
        end += align(sizes[name])
    return places


def _lay_out(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += align(size)
    return offsets, end


def _with_overwrites(step: Step, overwritable: Mapping[str, tuple[int, ...]]) -> Step:
    """Note at each call which of its tensors the result may be written over."""
    calls = []
    for call in step.calls:
        if len(call.writes) != 1 or call.overwrites or call.shifts:
            calls.append(call)
            continue
        # A tensor may be two operands: every way in which it is read counts.
        kept = {n for i, n in enumerate(call.reads) if i not in overwritable[call.kernel]}
        free = dict.fromkeys(n for n in call.reads if n not in kept)
        calls.append(replace(call, may_overwrite=tuple(free)))
    return step.with_calls(calls)


def _choose(
    choices: list[Tradeoff], whole: float, budget: int | None, public: Mapping[str, int]
) -> tuple[Tradeoff, ArenaPlan | None]:
    """Return the first choice that fits the budget, or the least bytes for a small price."""
    if budget is None:
        choice = [c for c in choices if c.repeated <= SMALL_PRICE * whole][-1]
        return choice, plan_arena(choice.step, public)
    for choice in choices:
        if choice.peak_bytes <= budget:
            plan = plan_arena(choice.step, public)
            if plan.arena_bytes <= budget:
                return choice, plan
    return choices[-1], None


def _sizes(
    choices: list[Tradeoff], choice: Tradeoff, plan: ArenaPlan
) -> Iterator[tuple[Tradeoff, int]]:
    """Yield what there was to choose from, and its bytes: of what was chosen, those planned.

    Of the others it is the largest live set, which a plan may exceed by a little. One that would
    then seem to be better in both ways is left out.
    """
    for c in choices:
        if c is choice:
            yield c, plan.arena_bytes
        elif c.repeated > choice.repeated or c.peak_bytes > plan.arena_bytes:
            yield c, c.peak_bytes

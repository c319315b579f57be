"""Where every tensor of an artifact lies, and in which order the kernels run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from tvm import tirx

from pock_tvm.compilation.costs import BYTES_PER_CYCLE_AGAIN, estimate_cycles, kernel_flops
from pock_tvm.compilation.graphs import Graphs
from pock_tvm.errors import MemoryBudgetError
from pock_tvm.relay_passes.plan_arena import SEARCH_ROUNDS, ArenaPlan, plan_arena
from pock_tvm.relay_passes.rematerialize import Tradeoff, tradeoffs
from pock_tvm.relay_passes.reorder_for_memory import reorder_for_memory
from pock_tvm.relay_passes.share_kernels import share_kernels
from pock_tvm.relay_passes.step import Step, align, peak_live_bytes
from pock_tvm.schedules import overwritable_inputs
from pock_tvm.targets import TargetSpec

SMALL_PRICE = 0.03
"""Share of a step's time that is given for memory where no budget asks for more."""

MANY_CALLS = 1500
"""In a step that repeats what it can, above which a budget's plans are searched for less long. A
placement takes the square of the calls, a budget may take several plans: minutes would go by."""

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
        prices: its frontier; each by its largest live set, of which a plan needs a little more.
    """

    def __init__(
        self, entry: str, budget: int, prices: tuple[Price, ...], plan: Callable[[], int]
    ) -> None:
        super().__init__(f"{entry} does not fit the memory budget of {budget:,} bytes")
        self.entry, self.prices = entry, prices
        self._budget, self._plan = budget, plan

    @cached_property
    def least_bytes(self) -> int:
        """What a budget has to be; found out by another plan, which takes its time."""
        return self._plan()

    def explain(self, remark: str = "") -> "OverBudgetError":
        """Name the least bytes in the message, with a remark behind it."""
        self.args = (
            f"{self.entry} needs {self.least_bytes:,} bytes at the least, the memory budget is"
            f" {self._budget:,}; make the batch smaller or let fewer tensors learn{remark}",
        )
        return self


@dataclass(frozen=True)
class Frontier:
    """What an entry point has to choose from."""

    step: Step
    """Before its calls were ordered."""
    choices: list[Tradeoff]
    cycles: float
    """Of the step that repeats nothing, by estimate."""


def find_frontiers(
    steps: Iterable[Step],
    kernels: Mapping[str, tirx.PrimFunc],
    spec: TargetSpec,
    known: Iterable[Frontier] = (),
) -> list[Frontier]:
    """Order the calls of each entry point, and find out what fewer bytes cost it.

    Args:
        steps: the entry points.
        kernels: what they call, not yet scheduled.
        spec: machine by whose estimated times memory is bought.
        known: frontiers of entry points, some of which may be the same.
    """
    before = {one.step.name: one for one in known}
    overwritable = {name: overwritable_inputs(func) for name, func in kernels.items()}
    flops = kernel_flops(kernels)
    cycles = estimate_cycles(kernels, flops, spec)
    again = estimate_cycles(kernels, flops, spec, bytes_per_cycle=BYTES_PER_CYCLE_AGAIN)
    found = []
    for step in steps:
        same = before.get(step.name)
        if same is None or same.step != step:
            choices = tradeoffs(reorder_for_memory(_with_overwrites(step, overwritable)), again)
            whole = sum(cycles[call.kernel] for call in step.calls) or 1.0
            same = Frontier(step, choices, whole)
        found.append(same)
    return found


@dataclass(frozen=True)
class _Resident:
    """Offsets of what is there between steps: frozen weights, and the state."""

    frozen: Mapping[str, int]
    state: Mapping[str, int]
    frozen_bytes: int
    trainable_bytes: int
    state_bytes: int

    @classmethod
    def of(cls, graphs: Graphs, steps: Sequence[Step]) -> "_Resident":
        """Lay out weights that are frozen; and weights that learn, optimizer state behind them."""
        learned = (*graphs.trainable, *graphs.statistics)
        in_state = set(learned)
        tensors = {n: t for step in steps for n, t in step.tensors.items()}
        sizes = {n: v.nbytes for n, v in graphs.values.items()}
        frozen, frozen_bytes = _lay_out({n: s for n, s in sizes.items() if n not in in_state})
        state, trainable_bytes = _lay_out({n: sizes[n] for n in learned})
        slots, slot_bytes = _lay_out({n: tensors[n].bytes for n in graphs.slots})
        state.update({n: trainable_bytes + offset for n, offset in slots.items()})
        return cls(frozen, state, frozen_bytes, trainable_bytes, trainable_bytes + slot_bytes)

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.frozen_bytes + self.state_bytes


def price_frontier(graphs: Graphs, spec: TargetSpec) -> tuple[Price, ...]:
    """Return what ``train_step`` has to choose from, without a place for any tensor.

    Each is priced by its largest live set, of which a plan needs a little more.
    """
    training = [step for step in graphs.steps if step.step.name == "train_step"]
    steps, kernels = share_kernels(training)
    (frontier,) = find_frontiers(steps, kernels, spec)
    resident = _Resident.of(graphs, steps).bytes
    return tuple(
        Price(resident + choice.peak_bytes, frontier.cycles + choice.repeated, graphs.micro_batches)
        for choice in frontier.choices
    )


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
        frontiers: Sequence[Frontier],
        graphs: Graphs,
        kernels: Mapping[str, tirx.PrimFunc],
        memory_budget: int | None = None,
        *,
        rough: bool = False,
    ) -> "Plan":
        """Choose a step for each entry point, then give every tensor its place.

        What callers see (inputs, outputs) has one place in all steps.

        Args:
            frontiers: of the entry points, ``train_step`` among them.
            graphs: whose weights and slots are laid out.
            kernels: what the steps call, not yet scheduled.
            memory_budget: bytes of weights, optimizer state and transients together.
            rough: take the first places that are found, which may need some percent more bytes.

        Raises:
            OverBudgetError: the budget cannot be met.
        """
        steps = [one.step for one in frontiers]
        resident = _Resident.of(graphs, steps)

        public = small_public_places(steps)
        ordered, arenas = [], {}
        prices: tuple[Price, ...] = ()
        price: Price | None = None
        for one in frontiers:
            step, choices, whole = one.step, one.choices, one.cycles
            rounds = 0 if rough else SEARCH_ROUNDS
            if memory_budget is not None:
                largest = max(len(choice.step.calls) for choice in choices)
                rounds = int(rounds * min(1.0, (MANY_CALLS / max(largest, 1)) ** 2))
            places = partial(plan_arena, fixed=dict(public), rounds=rounds)

            def priced(choice: Tradeoff, size: int, whole: float = whole) -> Price:
                return Price(resident.bytes + size, whole + choice.repeated, graphs.micro_batches)

            if memory_budget is None:
                choice = _unbudgeted(one)
                plan = places(choice.step)
            elif fitting := _first_that_fits(choices, memory_budget - resident.bytes, places):
                choice, plan = fitting
            else:
                raise OverBudgetError(
                    step.name,
                    memory_budget,
                    tuple(priced(c, c.peak_bytes) for c in choices),
                    partial(_bytes_of, places, choices[-1].step, resident.bytes),
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
            resident.frozen,
            resident.state,
            resident.frozen_bytes,
            resident.trainable_bytes,
            resident.state_bytes,
            kernel_flops(kernels),
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
    (frontier,) = find_frontiers([step], kernels, spec)
    return plan_arena(_unbudgeted(frontier).step)


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


def _bytes_of(places: Callable[[Step], ArenaPlan], step: Step, resident: int) -> int:
    return resident + places(step).arena_bytes


def _unbudgeted(frontier: Frontier) -> Tradeoff:
    """Return the least bytes for a small price."""
    price = SMALL_PRICE * frontier.cycles
    return [choice for choice in frontier.choices if choice.repeated <= price][-1]


def _first_that_fits(
    choices: list[Tradeoff], budget: int, places: Callable[[Step], ArenaPlan]
) -> tuple[Tradeoff, ArenaPlan] | None:
    """Return the first choice whose plan fits.

    A plan takes seconds, and dozens of choices may lie within the percent that plans are above
    their live sets: what one lacked, the next one tried has to have to spare.
    """
    wanted = budget
    for choice in choices:
        if choice.peak_bytes > wanted and (choice is not choices[-1] or choice.peak_bytes > budget):
            continue
        plan = places(choice.step)
        if plan.arena_bytes <= budget:
            return choice, plan
        wanted = budget * choice.peak_bytes // plan.arena_bytes
    return None


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

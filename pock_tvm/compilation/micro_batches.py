"""Under a budget too small for repetition alone, take the samples of a step some at a time.

The batch stays what the caller hands over; inside the step each micro-batch runs forward and back,
and its gradients are added to those before. What the batch then needs is what one micro-batch
needs, and a copy of the gradients.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tvm import tirx

from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.plan import OverBudgetError, Plan, Price, price_frontier
from pock_tvm.compilation.prefix import plan_in_parts
from pock_tvm.errors import UnsupportedModelError
from pock_tvm.targets import TargetSpec

POINTS = 100
"""Into which the bytes of a frontier are divided."""

Planned = tuple[Graphs, dict[str, tirx.PrimFunc], Plan]


def plan_within(
    build: Callable[[int], Graphs],
    spec: TargetSpec,
    samples: int,
    memory_budget: int | None,
    obstacle: str = "",
    *,
    explore: bool = False,
) -> Planned:
    """Plan the entry points, ``train_step`` in as few micro-batches as the budget allows.

    Args:
        build: returns the graphs for a number of micro-batches.
        spec: machine by whose estimated times memory is bought.
        samples: in a batch.
        memory_budget: bytes of weights, optimizer state and transients together.
        obstacle: why there cannot be micro-batches, if anything is known to be in the way.
        explore: find out what micro-batches would cost also where the budget needs none.

    Returns:
        The graphs, their kernels, and the plan, whose frontier has every number of micro-batches
        that was tried.

    Raises:
        MemoryBudgetError: the budget cannot be met; the message has the least bytes found.
    """
    planned: Planned | None = None
    least: OverBudgetError | None = None
    least_count = 1
    prices: list[Price] = []
    for count in (k for k in range(1, samples + 1) if samples % k == 0):
        if planned and (obstacle or not explore):
            break
        if least and obstacle:
            raise least.explain(_without(obstacle))
        try:
            graphs = build(count)
            if planned:
                prices += price_frontier(graphs, spec)
                continue
            planned = plan_in_parts(graphs, spec, samples, memory_budget)
            prices += planned[2].prices
        except UnsupportedModelError as reason:
            if count == 1:
                raise
            if least and not planned:
                raise least.explain(_without(str(reason))) from reason
            break
        except OverBudgetError as error:
            if error.entry != "train_step":
                raise error.explain() from None
            prices += error.prices
            if least is None or error.prices[-1].total_bytes < least.prices[-1].total_bytes:
                least, least_count = error, count
    if planned is None:
        assert least is not None
        parts = f" (as {least_count} micro-batches within the batch)" if least_count > 1 else ""
        raise least.explain(parts)
    graphs, kernels, plan = planned
    return graphs, kernels, replace(plan, prices=spaced(cheapest(prices), plan.price))


def cheapest(prices: Iterable[Price]) -> tuple[Price, ...]:
    """Return those that no other beats in both bytes and time, from the fastest to the smallest."""
    found: list[Price] = []
    for price in sorted(prices, key=lambda p: (p.cycles, p.total_bytes, p.micro_batches)):
        if not found or price.total_bytes < found[-1].total_bytes:
            found.append(price)
    return tuple(found)


def spaced(frontier: Sequence[Price], chosen: Price) -> tuple[Price, ...]:
    """Return its ends, the chosen point, and what differs by ``POINTS``th of the bytes between.

    A tensor more or less makes a point; a large step has thousands, which tell nobody anything.
    """
    first, last = frontier[0], frontier[-1]
    least = (first.total_bytes - last.total_bytes) / POINTS
    found = [first]
    for price in frontier[1:]:
        apart = found[-1].total_bytes - price.total_bytes >= least
        if apart or price in (chosen, last):
            found.append(price)
    return tuple(found)


def _without(reason: str) -> str:
    return f"; there are no micro-batches within the batch, since {reason}"

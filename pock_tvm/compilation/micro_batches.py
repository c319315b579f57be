"""Under a budget too small for repetition alone, take the samples of a step some at a time.

The batch stays what the caller hands over; inside the step each micro-batch runs forward and back,
and its gradients are added to those before. What the batch then needs is what one micro-batch
needs, and a copy of the gradients.
"""

from collections.abc import Callable

from tvm import tirx

from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.plan import Plan
from pock_tvm.compilation.prefix import plan_in_parts
from pock_tvm.errors import MemoryBudgetError, UnsupportedModelError
from pock_tvm.targets import TargetSpec


def plan_within(
    build: Callable[[int], Graphs],
    spec: TargetSpec,
    samples: int,
    memory_budget: int | None,
    obstacle: str = "",
) -> tuple[Graphs, dict[str, tirx.PrimFunc], Plan]:
    """Plan the entry points, ``train_step`` in as few micro-batches as the budget allows.

    Args:
        build: returns the graphs for a number of micro-batches.
        spec: machine by whose estimated times memory is bought.
        samples: in a batch.
        memory_budget: bytes of weights, optimizer state and transients together.
        obstacle: why there cannot be micro-batches, if anything is known to be in the way.

    Raises:
        MemoryBudgetError: the budget cannot be met; the message has the least bytes found.
    """
    try:
        return plan_in_parts(build(1), spec, samples, memory_budget)
    except MemoryBudgetError as error:
        least = error
    if least.entry != "train_step":
        raise least
    if obstacle:
        raise _without(least, obstacle)
    for count in (k for k in range(2, samples + 1) if samples % k == 0):
        try:
            return plan_in_parts(build(count), spec, samples, memory_budget)
        except UnsupportedModelError as reason:
            raise _without(least, str(reason)) from reason
        except MemoryBudgetError as error:
            tried = f"{error} (as {count} micro-batches within the batch)"
            if error.entry != "train_step":
                raise
            if error.least_bytes < least.least_bytes:
                least = MemoryBudgetError(tried, error.entry, error.least_bytes)
    raise least


def _without(least: MemoryBudgetError, reason: str) -> MemoryBudgetError:
    return MemoryBudgetError(
        f"{least}; there are no micro-batches within the batch, since {reason}",
        least.entry,
        least.least_bytes,
    )

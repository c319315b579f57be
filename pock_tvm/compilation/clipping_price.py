"""What clipping costs in memory: the step is planned with it and without it, in the same way."""

from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.plan import plan_step
from pock_tvm.relay_passes.extract_step import ExtractedStep
from pock_tvm.relay_passes.share_kernels import share_kernels
from pock_tvm.targets import TargetSpec


def clipping_bytes(graphs: Graphs, spec: TargetSpec) -> dict[str, int]:
    """Return the arena of a training step with and without clipping; empty without any.

    No memory budget is applied, for it would make both the same.
    """
    if graphs.unclipped is None:
        return {}
    clipped = next(one for one in graphs.steps if one.step.name == "train_step")
    unclipped = graphs.lower(graphs.unclipped)
    with_it, without = (_arena_bytes(one, spec) for one in (clipped, unclipped))
    return {
        "arena_bytes": with_it,
        "arena_bytes_without": without,
        "extra_bytes": with_it - without,
    }


def _arena_bytes(one: ExtractedStep, spec: TargetSpec) -> int:
    (step,), kernels = share_kernels([one])
    return plan_step(step, kernels, spec).arena_bytes

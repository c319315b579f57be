"""RMSProp, plain, centered and with momentum."""

from typing import Any

from tvm import tirx

from pock_tvm.optimizers import RMSProp
from pock_tvm.relay_passes.operators.optimizer_steps.elementwise import Element, ElementwiseStep


def _step(options: RMSProp, e: Element) -> tuple[Any, dict[str, Any]]:
    """v ← α·v + (1 - α)·g²;  u ← g / (√(v - a²) + ε);  m ← μ·m + u;  w ← w - η·m."""
    g = e.g + e.number(options.weight_decay) * e.w if options.weight_decay else e.g
    kept, fresh = e.number(options.alpha), e.number(1 - options.alpha)
    square = kept * e.slots["square"] + fresh * g * g
    slots, variance = {"square": square}, square
    if options.centered:
        mean = slots["mean"] = kept * e.slots["mean"] + fresh * g
        # v ≥ a² but for rounding, and the root of what rounding leaves below 0 would be NaN.
        variance = tirx.max(square - mean * mean, e.number(0.0))
    update = g / (tirx.sqrt(variance) + e.number(options.eps))
    if options.momentum:
        update = slots["momentum"] = e.number(options.momentum) * e.slots["momentum"] + update
    return e.w - e.rate * update, slots


rmsprop_step = ElementwiseStep(RMSProp, _step)

"""Lion: the sign of an interpolated momentum."""

from typing import Any

from tvm import tirx

from pock_tvm.optimizers import Lion
from pock_tvm.relay_passes.operators.optimizer_steps.elementwise import Element, ElementwiseStep


def _step(options: Lion, e: Element) -> tuple[Any, dict[str, Any]]:
    """w ← w - η·(sign(β₁·m + (1 - β₁)·g) + λ·w);  m ← β₂·m + (1 - β₂)·g."""
    m, zero, one = e.slots["momentum"], e.number(0.0), e.number(1.0)
    mixed = e.number(options.beta1) * m + e.number(1 - options.beta1) * e.g
    sign = tirx.Select(mixed > zero, one, tirx.Select(mixed < zero, e.number(-1.0), zero))
    direction = sign + e.number(options.weight_decay) * e.w if options.weight_decay else sign
    moment = e.number(options.beta2) * m + e.number(1 - options.beta2) * e.g
    return e.w - e.rate * direction, {"momentum": moment}


lion_step = ElementwiseStep(Lion, _step)

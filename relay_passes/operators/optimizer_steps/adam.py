"""Adam and AdamW; cᵢ = 1 - βᵢᵗ come as float64 scalars."""

from typing import Any

from tvm import tirx

from pock_tvm.optimizers import Adam, AdamW
from pock_tvm.relay_passes.operators.optimizer_steps.elementwise import Element, ElementwiseStep


def _step(options: Adam | AdamW, e: Element) -> tuple[Any, dict[str, Any]]:
    """m ← β₁·m + (1 - β₁)·g;  v ← β₂·v + (1 - β₂)·g²;  w ← w - η/c₁ · m / (√v/√c₂ + ε).

    Adam adds λ·w to g first, AdamW scales w by 1 - η·λ instead.
    """
    decay = e.number(options.weight_decay)
    w, g = e.w, e.g
    if isinstance(options, AdamW):
        w = w * (e.number(1.0) - e.rate * decay)
    elif options.weight_decay:
        g = g + decay * w
    m = e.number(options.beta1) * e.slots["moment1"] + e.number(1 - options.beta1) * g
    v = e.number(options.beta2) * e.slots["moment2"] + e.number(1 - options.beta2) * g * g
    root = tirx.sqrt(v) / tirx.sqrt(e.shared["correction2"].astype(e.dtype))
    scale = e.rate / e.shared["correction1"].astype(e.dtype)
    return w - scale * m / (root + e.number(options.eps)), {"moment1": m, "moment2": v}


adam_step = ElementwiseStep(Adam, _step)
adamw_step = ElementwiseStep(AdamW, _step)

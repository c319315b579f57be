"""SGD with momentum. Without it there is no operator: the step is arithmetic.

``w - η·g`` then fuses with the kernel that makes the gradient.
"""

from typing import Any

from pock_tvm.optimizers import SGD
from pock_tvm.relay_passes.operators.optimizer_steps.elementwise import Element, ElementwiseStep


def _step(options: SGD, e: Element) -> tuple[Any, dict[str, Any]]:
    """g ← g + λ·w;  m ← μ·m + g;  w ← w - η·m, or w - η·(g + μ·m) with Nesterov."""
    momentum = e.number(options.momentum)
    g = e.g + e.number(options.weight_decay) * e.w if options.weight_decay else e.g
    m = momentum * e.slots["momentum"] + g
    return e.w - e.rate * (g + momentum * m if options.nesterov else m), {"momentum": m}


sgd_step = ElementwiseStep(SGD, _step)

"""How each optimizer changes a weight, as graph code.

An optimizer whose step is one expression per element is one operator, which lowers to one kernel
that works in place (``elementwise``); the others are arithmetic that the graph fuses.
"""

from collections.abc import Mapping

from tvm import relax
from tvm.relax import Expr
from tvm.relax.op import add, multiply, subtract

from pock_tvm.optimizers import SGD, Adafactor, Adam, AdamW, Optimizer
from pock_tvm.relay_passes.operators.optimizer_steps.adafactor import (
    adafactor_scalars,
    adafactor_step,
)
from pock_tvm.relay_passes.operators.optimizer_steps.adam import adam_step, adamw_step
from pock_tvm.relay_passes.operators.optimizer_steps.elementwise import ElementwiseStep
from pock_tvm.relay_passes.operators.optimizer_steps.lion import lion_step
from pock_tvm.relay_passes.operators.optimizer_steps.rmsprop import rmsprop_step
from pock_tvm.relay_passes.operators.optimizer_steps.sgd import sgd_step

__all__ = ["advance_shared", "step_scalars", "update_weight"]

_ELEMENTWISE: dict[type[Optimizer], ElementwiseStep] = {
    step.kind: step for step in (sgd_step, adam_step, adamw_step, lion_step, rmsprop_step)
}


def advance_shared(
    bb: relax.BlockBuilder, options: Optimizer, shared: Mapping[str, Expr]
) -> dict[str, Expr]:
    """Emit the new values of the float64 scalars that all weights share.

    Bias corrections grow as cᵢ ← βᵢ·cᵢ + (1 - βᵢ) from 0, which is 1 - βᵢᵗ to the last bit but a
    few; in float32 1 - β₂ would already be wrong in the fifth digit.
    """
    if isinstance(options, Adam | AdamW):
        betas = {"correction1": options.beta1, "correction2": options.beta2}
        return {name: bb.emit(_grown(shared[name], beta)) for name, beta in betas.items()}
    return {name: bb.emit(add(t, relax.const(1.0, "float64"))) for name, t in shared.items()}


def step_scalars(
    bb: relax.BlockBuilder, options: Optimizer, shared: Mapping[str, Expr], rate: Expr
) -> dict[str, Expr]:
    """Emit, once for all weights, what their updates compute from the advanced scalars."""
    if isinstance(options, Adafactor):
        return adafactor_scalars(bb, options, shared["step"], rate)
    return dict(shared)


def update_weight(
    bb: relax.BlockBuilder,
    options: Optimizer,
    w: Expr,
    g: Expr,
    rate: Expr,
    slots: Mapping[str, Expr],
    scalars: Mapping[str, Expr],
) -> tuple[Expr, dict[str, Expr]]:
    """Emit the update of one weight; return its new value and those of its slots."""
    if isinstance(options, Adafactor):
        return adafactor_step(bb, options, w, g, scalars, slots)
    if isinstance(options, SGD) and not slots:
        if options.weight_decay:
            g = add(g, multiply(w, relax.const(options.weight_decay, w.ty.dtype)))
        return bb.emit(subtract(w, multiply(rate, g))), {}
    results = bb.emit(_ELEMENTWISE[type(options)](options, w, g, rate, slots, scalars))
    new_slots = {n: bb.emit(relax.TupleGetItem(results, i + 1)) for i, n in enumerate(slots)}
    return bb.emit(relax.TupleGetItem(results, 0)), new_slots


def _grown(correction: Expr, beta: float) -> Expr:
    kept = multiply(correction, relax.const(beta, "float64"))
    return add(kept, relax.const(1 - beta, "float64"))

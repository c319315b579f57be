"""Optimizer steps that keep state: one pass over memory for the weight and its slots.

``pock.momentum_step(w, m, g, η) -> (w', m')`` and
``pock.adamw_step(w, m, v, g, η, c₁, c₂) -> (w', m', v')`` with cᵢ = 1 - βᵢᵗ. A step without state
is ordinary arithmetic, so that it can fuse with the kernel that makes the gradient.
"""

from collections.abc import Callable
from typing import Any

from tvm import relax, te, tirx

from pock_tvm.optimizers import SGD, AdamW
from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def te_momentum_step(
    w: te.Tensor, m: te.Tensor, g: te.Tensor, rate: te.Tensor, options: SGD
) -> list[te.Tensor]:
    """Return the new weight and momentum."""
    const = _constants_of(w)

    def step(*i: Any) -> tuple[Any, Any]:
        decayed = g(*i) + const(options.weight_decay) * w(*i) if options.weight_decay else g(*i)
        moment = const(options.momentum) * m(*i) + decayed
        direction = decayed + const(options.momentum) * moment if options.nesterov else moment
        return w(*i) - rate() * direction, moment

    return list(te.compute(w.shape, step, name="momentum_step"))


def te_adamw_step(
    w: te.Tensor,
    m: te.Tensor,
    v: te.Tensor,
    g: te.Tensor,
    rate: te.Tensor,
    correction1: te.Tensor,
    correction2: te.Tensor,
    options: AdamW,
) -> list[te.Tensor]:
    """Return the new weight and both moments."""
    const = _constants_of(w)

    def step(*i: Any) -> tuple[Any, Any, Any]:
        grad = g(*i)
        moment1 = const(options.beta1) * m(*i) + const(1 - options.beta1) * grad
        moment2 = const(options.beta2) * v(*i) + const(1 - options.beta2) * grad * grad
        root = tirx.sqrt(moment2) / tirx.sqrt(correction2().astype(w.dtype))
        scale = rate() / correction1().astype(w.dtype)
        decayed = w(*i) * (const(1.0) - rate() * const(options.weight_decay))
        return decayed - scale * moment1 / (root + const(options.eps)), moment1, moment2

    return list(te.compute(w.shape, step, name="adamw_step"))


def _constants_of(w: te.Tensor) -> Callable[[float], Any]:
    return lambda value: tirx.const(value, w.dtype)


def _infer_momentum(call: relax.Call) -> relax.TupleType:
    """SGD with momentum: (w', m')."""
    return relax.TupleType([call.args[0].ty, call.args[1].ty])


def _infer_adamw(call: relax.Call) -> relax.TupleType:
    """AdamW: (w', m', v')."""
    return relax.TupleType([call.args[0].ty, call.args[1].ty, call.args[2].ty])


def _legalize_momentum(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    a = call.attrs
    options = SGD(
        momentum=float(a["momentum"]),
        nesterov=bool(a["nesterov"]),
        weight_decay=float(a["weight_decay"]),
    )
    return bb.call_te(
        lambda w, m, g, rate: te_momentum_step(w, m, g, rate, options),
        *call.args,
        primfunc_name_hint="momentum_step",
    )


def _legalize_adamw(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    a = call.attrs
    options = AdamW(
        beta1=float(a["beta1"]),
        beta2=float(a["beta2"]),
        eps=float(a["eps"]),
        weight_decay=float(a["weight_decay"]),
    )
    return bb.call_te(
        lambda w, m, v, g, rate, c1, c2: te_adamw_step(w, m, v, g, rate, c1, c2, options),
        *call.args,
        primfunc_name_hint="adamw_step",
    )


MOMENTUM_STEP = register_operator(
    "pock.momentum_step", infer_type=_infer_momentum, legalize=_legalize_momentum
)
ADAMW_STEP = register_operator("pock.adamw_step", infer_type=_infer_adamw, legalize=_legalize_adamw)


def momentum_step(
    w: relax.Expr, m: relax.Expr, g: relax.Expr, rate: relax.Expr, options: SGD
) -> relax.Call:
    """Build ``pock.momentum_step``; ``rate`` is a scalar tensor."""
    return call_operator(
        MOMENTUM_STEP,
        w,
        m,
        g,
        rate,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
    )


def adamw_step(
    w: relax.Expr,
    m: relax.Expr,
    v: relax.Expr,
    g: relax.Expr,
    rate: relax.Expr,
    corrections: tuple[relax.Expr, relax.Expr],
    options: AdamW,
) -> relax.Call:
    """Build ``pock.adamw_step``; ``corrections`` are the float64 scalars 1 - β₁ᵗ and 1 - β₂ᵗ."""
    return call_operator(
        ADAMW_STEP,
        w,
        m,
        v,
        g,
        rate,
        *corrections,
        beta1=options.beta1,
        beta2=options.beta2,
        eps=options.eps,
        weight_decay=options.weight_decay,
    )

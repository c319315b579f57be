"""VJP rules of losses that are operators of their own; the others are made of operators."""

from tvm.relax import Call, Expr, Var

from pock_tvm.relay_passes.operators.pointwise_loss import pointwise_loss_grad
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("pock.pointwise_loss")
def pointwise_loss_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """l = mean f(x, y): x̄ = l̄ / n · f'(x, y); labels have no gradient. Nothing is saved."""
    return (lambda: pointwise_loss_grad(call, ct), None)

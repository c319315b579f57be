"""VJP rule of attention in tiles."""

from tvm import relax
from tvm.relax import Call, Expr, Var

from pock_tvm.relay_passes.operators.attention import attention_grad
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("pock.attention")
def attention_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """The probabilities are computed again: nothing is kept but q, k and v. A mask has no part."""

    def field(index: int) -> Expr:
        return relax.TupleGetItem(attention_grad(call, ct), index)

    masks = [None for _ in call.args[3:]]
    return (lambda: field(0), lambda: field(1), lambda: field(2), *masks)

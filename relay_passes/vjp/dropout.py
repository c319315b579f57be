"""The VJP rule of dropout."""

from functools import partial

from tvm.relax import Call, Expr, Var

from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("pock.dropout")
def dropout_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = m · x / (1 - p): x̄ = m · ȳ / (1 - p); the mask m is drawn again, not kept."""
    keys = call.args[1:]
    again = partial(Call, call.op, [ct, *keys], call.attrs)
    return (again, *[None] * len(keys))

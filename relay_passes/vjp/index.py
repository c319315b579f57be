"""VJP rules of operators that pick elements by position."""

from tvm.relax import Call, Expr, Var

from pock_tvm.relay_passes.operators.scatter_add import scatter_add
from pock_tvm.relay_passes.vjp.broadcast import normal_axis, shape_of
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("relax.take")
def take_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x[…, i, …]: x̄ is zero, with each slice of ȳ added where it was taken from."""
    x, indices = call.args
    shape = shape_of(x)
    axis = 0 if call.attrs.axis is None else normal_axis(int(call.attrs.axis), len(shape))
    return (lambda: scatter_add(ct, indices, shape, axis), None)

"""VJP rules of operators that pick elements by position."""

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.operators.scatter_add import scatter_add
from pock_tvm.relay_passes.vjp.broadcast import normal_axis, scalar, shape_of
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("relax.take")
def take_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x[…, i, …]: x̄ is zero, with each slice of ȳ added where it was taken from."""
    x, indices = call.args
    shape = shape_of(x)
    axis = 0 if call.attrs.axis is None else normal_axis(int(call.attrs.axis), len(shape))

    def x_bar() -> Expr:
        places, last = indices, shape[axis] - 1
        if call.attrs.mode == "clip":
            places = R.clip(indices, 0, last)
        elif call.attrs.mode == "wrap":
            places = R.floor_mod(indices, scalar(last + 1, indices))
        return scatter_add(ct, places, shape, axis)

    return x_bar, None

"""VJP rules of activations that have a slope of their own below zero."""

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.vjp.broadcast import normal_axis, reshape, scalar, shape_of, sum_to_shape
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp

_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


@register_vjp("relax.nn.prelu")
def prelu_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x where x > 0, else αx: x̄ = ȳ where x > 0, else αȳ; ᾱ = Σ ȳ · min(x, 0)."""
    x, alpha = call.args
    shape = shape_of(x)
    at = normal_axis(int(call.attrs.axis), len(shape))
    along = tuple(
        shape_of(alpha)[0] if axis == at and shape_of(alpha) else 1 for axis in range(len(shape))
    )
    zero = scalar(0, x)

    def alpha_bar() -> Expr:
        summed = sum_to_shape(ct * R.minimum(x, zero), shape, along)
        return reshape(summed, shape_of(alpha))

    return (
        lambda: R.where(R.greater(x, zero), ct, ct * reshape(alpha, along)),
        alpha_bar,
    )


@register_vjp("relax.nn.selu")
def selu_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = λx where x > 0, else λα(eˣ - 1): x̄ = λȳ where y > 0, else (y + λα) ȳ."""

    def x_bar() -> Expr:
        below = out + scalar(_SELU_SCALE * _SELU_ALPHA, ct)
        above = R.greater(out, scalar(0, out))
        return ct * R.where(above, scalar(_SELU_SCALE, ct), below)

    return (x_bar,)

"""VJP rules of operators that move elements without changing them."""

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.vjp.broadcast import normal_axis, shape_of, sum_to_shape
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("relax.reshape")
@register_vjp("relax.flatten")
@register_vjp("relax.expand_dims")
@register_vjp("relax.squeeze")
def reshape_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y has the elements of x in the same order: x̄ = ȳ in the shape of x."""
    shape = shape_of(call.args[0])
    return (lambda: R.reshape(ct, shape),)


@register_vjp("relax.permute_dims")
def permute_dims_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x with its axes permuted: x̄ = ȳ permuted back."""
    rank = len(shape_of(out))
    axes = call.attrs.axes
    axes = range(rank)[::-1] if axes is None else [normal_axis(int(a), rank) for a in axes]
    inverse = sorted(range(rank), key=lambda axis: axes[axis])
    return (lambda: R.permute_dims(ct, inverse),)


@register_vjp("relax.broadcast_to")
def broadcast_to_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x repeated: x̄ = Σ ȳ over the repetitions."""
    return (lambda: sum_to_shape(ct, shape_of(out), shape_of(call.args[0])),)

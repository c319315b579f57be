"""VJP rules of normalizations and softmax."""

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.operators import cross_entropy
from pock_tvm.relay_passes.vjp.broadcast import normal_axes, scalar, shape_of
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("relax.nn.softmax")
def softmax_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = softmax(x): x̄ = y · (ȳ - Σ ȳ y)."""
    axis = int(call.attrs.axis)
    return (lambda: out * (ct - R.sum(ct * out, axis=[axis], keepdims=True)),)


@register_vjp("relax.nn.log_softmax")
def log_softmax_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = log softmax(x): x̄ = ȳ - exp(y) · Σ ȳ."""
    axis = int(call.attrs.axis)
    return (lambda: ct - R.exp(out) * R.sum(ct, axis=[axis], keepdims=True),)


@register_vjp("relax.nn.layer_norm")
def layer_norm_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = γ x̂ + β, x̂ = (x - μ) r: x̄ = r (g - mean g - x̂ mean(g x̂)), γ̄ = Σ ȳ x̂, β̄ = Σ ȳ.

    r = 1 / √(σ² + ε) and g = ȳ γ. μ and r are recomputed from x rather than saved.
    """
    x, gamma, _ = call.args
    rank = len(shape_of(x))
    axes = list(normal_axes(call.attrs.axes, rank))
    others = [axis for axis in range(rank) if axis not in axes]
    centred = x - R.mean(x, axis=axes, keepdims=True)
    variance = R.mean(centred * centred, axis=axes, keepdims=True)
    r = R.rsqrt(variance + scalar(float(call.attrs.epsilon), x))
    normed = centred * r

    def x_bar() -> Expr:
        g = ct * gamma if call.attrs.scale else ct
        mean = R.mean(g, axis=axes, keepdims=True)
        along = R.mean(g * normed, axis=axes, keepdims=True)
        return r * (g - mean - normed * along)

    def sum_rows(value: Expr) -> Expr:
        return R.sum(value, axis=others) if others else value

    return (
        x_bar,
        (lambda: sum_rows(ct * normed)) if call.attrs.scale else None,
        (lambda: sum_rows(ct)) if call.attrs.center else None,
    )


@register_vjp("pock.cross_entropy")
def cross_entropy_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """The gradient recomputes the softmax from the logits: nothing is saved."""
    return (lambda: cross_entropy.cross_entropy_grad(call, ct), None)

"""VJP rules of reductions over axes."""

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.vjp.broadcast import (
    Shape,
    count,
    dtype_of,
    normal_axes,
    reshape,
    scalar,
    shape_of,
)
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


def _reduced(call: Call) -> tuple[Expr, tuple[int, ...], Shape]:
    """Return the operand, the axes that go, and the output's shape with those axes kept as 1."""
    (x,) = call.args
    shape = shape_of(x)
    axes = normal_axes(call.attrs.axis, len(shape))
    return x, axes, tuple(1 if axis in axes else n for axis, n in enumerate(shape))


def _keep_axes(value: Expr, call: Call, kept: Shape) -> Expr:
    """Give a tensor of the output's shape its reduced axes back, where broadcasting needs them."""
    unneeded = call.attrs.keepdims or all(extent == 1 for extent in kept)
    return value if unneeded else reshape(value, kept)


@register_vjp("relax.sum")
def sum_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = Σ x: x̄ = ȳ at every summand."""
    x, _, kept = _reduced(call)
    return (lambda: R.broadcast_to(_keep_axes(ct, call, kept), shape_of(x)),)


@register_vjp("relax.mean")
def mean_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = Σ x / n: x̄ = ȳ / n at every summand, divided before it is spread."""
    x, axes, kept = _reduced(call)
    share = scalar(1 / count(shape_of(x), axes), ct)
    return (lambda: R.broadcast_to(_keep_axes(ct * share, call, kept), shape_of(x)),)


@register_vjp("relax.variance")
def variance_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = Σ (x - μ)² / n: x̄ = ȳ · 2 (x - μ) / n, with μ recomputed rather than saved."""
    x, axes, kept = _reduced(call)
    share = scalar(2 / count(shape_of(x), axes), ct)
    mean = R.mean(x, axis=list(axes), keepdims=True)
    return (lambda: _keep_axes(ct * share, call, kept) * (x - mean),)


@register_vjp("relax.max")
@register_vjp("relax.min")
def extremum_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = max x or min x: ȳ is shared equally by the entries that equal y."""
    x, axes, kept = _reduced(call)

    def x_bar() -> Expr:
        hit = R.astype(R.equal(x, _keep_axes(out, call, kept)), dtype_of(x))
        hits = R.sum(hit, axis=list(axes), keepdims=True)
        return _keep_axes(ct, call, kept) / hits * hit

    return (x_bar,)


@register_vjp("relax.std")
def std_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = √(Σ (x - μ)² / n): x̄ = ȳ · (x - μ) / (n y), with μ recomputed rather than saved."""
    x, axes, kept = _reduced(call)
    share = scalar(1 / count(shape_of(x), axes), ct)
    mean = R.mean(x, axis=list(axes), keepdims=True)
    return (lambda: _keep_axes(ct * share / out, call, kept) * (x - mean),)

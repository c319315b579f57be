"""VJP rules of elementwise operators with several operands, which broadcast against each other."""

from collections.abc import Callable

from tvm.ir import GenericConst
from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.vjp.broadcast import scalar, shape_of, sum_to_shape
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


def _back_to(operand: Expr, out: Var, value: Callable[[], Expr]) -> Callable[[], Expr]:
    """Sum ``value``, which has the shape of ``out``, to the shape of ``operand``."""
    return lambda: sum_to_shape(value(), shape_of(out), shape_of(operand))


@register_vjp("relax.add")
def add_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = x + y: x̄ = z̄, ȳ = z̄."""
    x, y = call.args
    return _back_to(x, out, lambda: ct), _back_to(y, out, lambda: ct)


@register_vjp("relax.subtract")
def subtract_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = x - y: x̄ = z̄, ȳ = -z̄."""
    x, y = call.args
    back = _back_to(y, out, lambda: ct)
    return _back_to(x, out, lambda: ct), lambda: R.negative(back())


@register_vjp("relax.multiply")
def multiply_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = x · y: x̄ = z̄ · y, ȳ = z̄ · x."""
    x, y = call.args
    return _back_to(x, out, lambda: ct * y), _back_to(y, out, lambda: ct * x)


@register_vjp("relax.divide")
def divide_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = x / y: x̄ = z̄ / y, ȳ = -z̄ · z / y."""
    x, y = call.args
    return (
        _back_to(x, out, lambda: ct / y),
        _back_to(y, out, lambda: R.negative(ct * out / y)),
    )


@register_vjp("relax.power")
def power_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = xʸ: x̄ = z̄ · y · xʸ⁻¹, 0 where y = 0; ȳ = z̄ · z · log x, 0 where x = 0 ≤ y."""
    x, y = call.args

    def x_bar() -> Expr:
        if isinstance(y, GenericConst) and not shape_of(y):
            exponent = float(y.value.numpy())
            if exponent == 2:
                return ct * scalar(2, ct) * x
            return ct * scalar(exponent, ct) * R.power(x, scalar(exponent - 1, ct))
        slope = y * R.power(x, y - scalar(1, y))
        return ct * R.where(R.equal(y, scalar(0, y)), scalar(0, ct), slope)

    def y_bar() -> Expr:
        flat = R.logical_and(R.equal(x, scalar(0, x)), R.greater_equal(y, scalar(0, y)))
        return ct * R.where(flat, scalar(0, ct), out * R.log(x))

    return _back_to(x, out, x_bar), _back_to(y, out, y_bar)


def _select(ct: Expr, first: Expr, second: Expr) -> Expr:
    """Return ``ct`` where ``first`` > ``second``, half of it at a tie as in PyTorch, else 0."""
    tie = R.where(R.equal(first, second), ct * scalar(0.5, ct), scalar(0, ct))
    return R.where(R.greater(first, second), ct, tie)


@register_vjp("relax.maximum")
def maximum_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = max(x, y): z̄ goes to the greater one, halved where they are equal."""
    x, y = call.args
    return (
        _back_to(x, out, lambda: _select(ct, x, y)),
        _back_to(y, out, lambda: _select(ct, y, x)),
    )


@register_vjp("relax.minimum")
def minimum_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = min(x, y): z̄ goes to the smaller one, halved where they are equal."""
    x, y = call.args
    return (
        _back_to(x, out, lambda: _select(ct, y, x)),
        _back_to(y, out, lambda: _select(ct, x, y)),
    )


@register_vjp("relax.where")
def where_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = x where c, else y: x̄ = z̄ where c, ȳ = z̄ elsewhere."""
    c, x, y = call.args
    zero = scalar(0, ct)
    return (
        None,
        _back_to(x, out, lambda: R.where(c, ct, zero)),
        _back_to(y, out, lambda: R.where(c, zero, ct)),
    )


@register_vjp("relax.atan2")
def atan2_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = atan2(y, x): ȳ = z̄ · x / (x² + y²), x̄ = -z̄ · y / (x² + y²)."""
    y, x = call.args
    return (
        _back_to(y, out, lambda: ct * x / (x * x + y * y)),
        _back_to(x, out, lambda: R.negative(ct * y / (x * x + y * y))),
    )


@register_vjp("relax.log_add_exp")
def log_add_exp_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = log(eˣ + eʸ): x̄ = z̄ · eˣ⁻ᶻ, ȳ = z̄ · eʸ⁻ᶻ."""
    x, y = call.args
    return (
        _back_to(x, out, lambda: ct * R.exp(x - out)),
        _back_to(y, out, lambda: ct * R.exp(y - out)),
    )


@register_vjp("relax.mod")
def mod_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = x - y · trunc(x / y): x̄ = z̄, ȳ = -z̄ · trunc(x / y)."""
    x, y = call.args
    return (
        _back_to(x, out, lambda: ct),
        _back_to(y, out, lambda: R.negative(ct * R.trunc(x / y))),
    )


@register_vjp("relax.floor_mod")
def floor_mod_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = x - y · ⌊x / y⌋: x̄ = z̄, ȳ = -z̄ · ⌊x / y⌋."""
    x, y = call.args
    return (
        _back_to(x, out, lambda: ct),
        _back_to(y, out, lambda: R.negative(ct * R.floor(x / y))),
    )


@register_vjp("relax.outer")
def outer_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z_ij = x_i y_j: x̄ = z̄ y, ȳ = z̄ᵀ x."""
    x, y = call.args
    return (lambda: R.matmul(ct, y), lambda: R.matmul(x, ct))

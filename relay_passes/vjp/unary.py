"""VJP rules of elementwise operators with one tensor operand.

Most need only the output: it is read by the next operator anyway, so nothing more is kept alive.
"""

import math

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.vjp.broadcast import dtype_of, scalar
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("relax.exp")
def exp_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = exp(x): x̄ = ȳ · y."""
    return (lambda: ct * out,)


@register_vjp("relax.log")
def log_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = log(x): x̄ = ȳ / x."""
    (x,) = call.args
    return (lambda: ct / x,)


@register_vjp("relax.sqrt")
def sqrt_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = √x: x̄ = ȳ / 2y."""
    return (lambda: ct * scalar(0.5, ct) / out,)


@register_vjp("relax.rsqrt")
def rsqrt_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = 1 / √x: x̄ = -ȳ · y³ / 2."""
    return (lambda: ct * scalar(-0.5, ct) * (out * out * out),)


@register_vjp("relax.negative")
def negative_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = -x: x̄ = -ȳ."""
    return (lambda: R.negative(ct),)


@register_vjp("relax.abs")
def abs_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = |x|: x̄ = ȳ · sign(x), 0 at x = 0."""
    (x,) = call.args
    return (lambda: ct * R.sign(x),)


@register_vjp("relax.square")
def square_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x²: x̄ = 2 ȳ x."""
    (x,) = call.args
    return (lambda: ct * scalar(2, ct) * x,)


@register_vjp("relax.sin")
def sin_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = sin(x): x̄ = ȳ · cos(x)."""
    (x,) = call.args
    return (lambda: ct * R.cos(x),)


@register_vjp("relax.cos")
def cos_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = cos(x): x̄ = -ȳ · sin(x)."""
    (x,) = call.args
    return (lambda: R.negative(ct * R.sin(x)),)


@register_vjp("relax.tan")
def tan_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = tan(x): x̄ = ȳ · (1 + y²)."""
    return (lambda: ct * (scalar(1, ct) + out * out),)


@register_vjp("relax.sinh")
def sinh_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = sinh(x): x̄ = ȳ · cosh(x)."""
    (x,) = call.args
    return (lambda: ct * R.cosh(x),)


@register_vjp("relax.cosh")
def cosh_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = cosh(x): x̄ = ȳ · sinh(x)."""
    (x,) = call.args
    return (lambda: ct * R.sinh(x),)


@register_vjp("relax.atan")
def atan_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = atan(x): x̄ = ȳ / (1 + x²)."""
    (x,) = call.args
    return (lambda: ct / (scalar(1, ct) + x * x),)


@register_vjp("relax.tanh")
def tanh_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = tanh(x): x̄ = ȳ · (1 - y²)."""
    return (lambda: ct * (scalar(1, ct) - out * out),)


@register_vjp("relax.sigmoid")
def sigmoid_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = σ(x): x̄ = ȳ · y · (1 - y)."""
    return (lambda: ct * (out * (scalar(1, ct) - out)),)


@register_vjp("relax.erf")
def erf_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = erf(x): x̄ = ȳ · 2/√π · exp(-x²)."""
    (x,) = call.args
    return (lambda: ct * scalar(2 / math.sqrt(math.pi), ct) * R.exp(R.negative(x * x)),)


@register_vjp("relax.astype")
def astype_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x as another float type: x̄ = ȳ as the type of x."""
    (x,) = call.args
    return (lambda: R.astype(ct, dtype_of(x)),)


@register_vjp("relax.clip")
def clip_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = min(max(x, lo), hi): x̄ = ȳ where lo < y < hi, else 0.

    At a bound the gradient is 0, as that of ReLU6 and Hardtanh is; ``torch.clamp`` arrives as the
    same operator and would pass it there. Strict bounds let the mask be read off the output, so x
    need not be kept.
    """
    _, low, high = call.args
    low, high = scalar(float(low.value), ct), scalar(float(high.value), ct)

    def x_bar() -> Expr:
        inside = R.logical_and(R.greater(out, low), R.less(out, high))
        return R.where(inside, ct, scalar(0, ct))

    return (x_bar,)


@register_vjp("relax.nn.relu")
def relu_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = max(x, 0): x̄ = ȳ where y > 0, else 0."""
    return (lambda: R.where(R.greater(out, scalar(0, out)), ct, scalar(0, ct)),)


@register_vjp("relax.nn.leakyrelu")
def leakyrelu_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x where x > 0, else αx: x̄ = ȳ where x > 0, else αȳ."""
    (x,) = call.args
    alpha = scalar(float(call.attrs.alpha), ct)
    return (lambda: R.where(R.greater(x, scalar(0, x)), ct, ct * alpha),)


@register_vjp("relax.nn.silu")
def silu_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x · σ(x): x̄ = ȳ · σ · (1 + x · (1 - σ)), with σ recomputed: x alone is kept."""
    (x,) = call.args
    s = R.sigmoid(x)
    return (lambda: ct * s * (scalar(1, ct) + x * (scalar(1, ct) - s)),)


@register_vjp("relax.nn.gelu")
def gelu_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x · Φ(x): x̄ = ȳ · (Φ + x · φ), Φ and φ being the normal distribution and its density."""
    (x,) = call.args

    def x_bar() -> Expr:
        half = scalar(0.5, ct)
        distribution = half + half * R.erf(x * scalar(math.sqrt(0.5), ct))
        density = R.exp(x * x * scalar(-0.5, ct)) * scalar(1 / math.sqrt(2 * math.pi), ct)
        return ct * (distribution + x * density)

    return (x_bar,)


@register_vjp("relax.nn.gelu_tanh")
def gelu_tanh_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x · (1 + t) / 2, t = tanh(u), u = k (x + a x³): x̄ = ȳ · (1 + t + x (1 - t²) u') / 2."""
    (x,) = call.args

    def x_bar() -> Expr:
        one, half, k = scalar(1, ct), scalar(0.5, ct), scalar(math.sqrt(2 / math.pi), ct)
        squared = x * x
        t = R.tanh(k * x * (one + scalar(0.044715, ct) * squared))
        slope = k * (one + scalar(3 * 0.044715, ct) * squared)
        return ct * half * (one + t + x * (one - t * t) * slope)

    return (x_bar,)


@register_vjp("relax.asin")
def asin_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = asin(x): x̄ = ȳ / √(1 - x²)."""
    (x,) = call.args
    return (lambda: ct * R.rsqrt(scalar(1, ct) - x * x),)


@register_vjp("relax.acos")
def acos_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = acos(x): x̄ = -ȳ / √(1 - x²)."""
    (x,) = call.args
    return (lambda: R.negative(ct * R.rsqrt(scalar(1, ct) - x * x)),)


@register_vjp("relax.asinh")
def asinh_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = asinh(x): x̄ = ȳ / √(x² + 1)."""
    (x,) = call.args
    return (lambda: ct * R.rsqrt(x * x + scalar(1, ct)),)


@register_vjp("relax.acosh")
def acosh_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = acosh(x): x̄ = ȳ / √(x² - 1)."""
    (x,) = call.args
    return (lambda: ct * R.rsqrt(x * x - scalar(1, ct)),)


@register_vjp("relax.atanh")
def atanh_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = atanh(x): x̄ = ȳ / (1 - x²)."""
    (x,) = call.args
    return (lambda: ct / (scalar(1, ct) - x * x),)


@register_vjp("relax.tril")
def tril_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x on and below a diagonal, else 0: x̄ = ȳ there, else 0."""
    return (lambda: R.tril(ct, call.args[1]),)


@register_vjp("relax.triu")
def triu_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x on and above a diagonal, else 0: x̄ = ȳ there, else 0."""
    return (lambda: R.triu(ct, call.args[1]),)

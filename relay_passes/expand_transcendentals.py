"""Replace float32 transcendental functions by arithmetic that vectorises.

Before:  y[i] = T.exp(x[i])
After:   y[i] = let a = clamp(x[i]), n = round(a / ln 2), r = a - n·ln 2 in 2ⁿ · polynomial(r)

LLVM has no vector form of ``expf``, ``logf``, ``tanhf``, ``erff``: it would call libm once per
element, and the answer would depend on the machine's libm. Run it on scheduled kernels (schedules
count calls to see what is costly) and before they are lowered. float64 is left alone.

The coefficients are minimax fits of our own (weighted least squares on Chebyshev nodes, reweighted
until the error is level), the argument reductions are those of W. J. Cody and W. Waite, "Software
Manual for the Elementary Functions", 1980. Error against float64: exp, log, tanh, sigmoid below
4 ulp, erf below 2·10⁻⁷ absolute.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693359375  # ln 2 to 9 bits, so that n · _LN2_HIGH is exact
_LN2_LOW = -2.12194440054690583e-4

# (eʳ - 1 - r) / r² on |r| ≤ ln 2 / 2
_EXP = (0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368716575205326,
        0.001381459878757596)  # fmt: skip
# (log(1 + f) - 2s) / s³, s = f / (2 + f), in s², on √½ ≤ 1 + f ≤ √2
_LOG = (0.6666677594184875, 0.39977574348449707, 0.29870936274528503)
# (tanh x - x) / x³ in x² on |x| ≤ 0.625
_TANH = (-0.3333328068256378, 0.13331440091133118, -0.0537395253777504, 0.02063843421638012,
         -0.005704226903617382)  # fmt: skip
# erf x / x - 1 in x² on |x| ≤ 1
_ERF_SMALL = (0.12837912142276764, -0.37612324953079224, 0.11280180513858795,
              -0.026711316779255867, 0.00491755735129118, -0.0005631443927995861)  # fmt: skip
# -log(1 - erf x) in x - 2 on 1 ≤ x ≤ 4
_ERF_LARGE = (5.364941120147705, 4.418159484863281, 0.9237530827522278, 0.016487272456288338,
              -0.0035436858888715506, 0.0007127191638574004, -0.0001855740265455097)  # fmt: skip


@tvm.transform.module_pass(opt_level=0, name="ExpandTranscendentals")
class ExpandTranscendentals:
    """Expand exp, log, tanh, erf, sigmoid and small integer powers in every PrimFunc."""

    def transform_module(
        self, mod: tvm.IRModule, _context: tvm.transform.PassContext
    ) -> tvm.IRModule:
        """Return the module with its kernels expanded."""
        functions = {
            name: expand_transcendentals(func) if isinstance(func, tirx.PrimFunc) else func
            for name, func in mod.functions.items()
        }
        return tvm.IRModule(functions, attrs=mod.attrs)


def expand_transcendentals(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Expand the transcendental functions of one kernel."""
    body = tvm_ffi.structural_map(func.body, (Call, _expand), order="post")
    return func if body.same_as(func.body) else func.with_body(body)


def is_expanded(call: Call) -> bool:
    """Tell whether a call is of a function that may be expanded."""
    name = getattr(call.op, "name", "")
    return str(call.ty) == "float32" and (name == "tirx.pow" or name in _EXPANSIONS)


def _expand(call: Call) -> Any:
    name = getattr(call.op, "name", "")
    if name == "tirx.pow" and str(call.ty) == "float32":
        return _power(call)
    if name not in _EXPANSIONS or str(call.ty) != "float32":
        return call
    return _let("x", call.args[0], _EXPANSIONS[name])


def _let(name: str, value: Any, body: Callable[[Any], Any]) -> Any:
    variable = tirx.Var(name, value.ty.dtype)
    return tirx.Let(variable, value, body(variable))


def _f(value: float) -> Any:
    return tirx.const(value, "float32")


def _i(value: int) -> Any:
    return tirx.const(value, "int32")


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    value = _f(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + _f(c)
    return value


def _bits(x: Any) -> Any:
    return tirx.reinterpret("int32", x)


def _power_of_two(n: Any) -> Any:
    """2ⁿ for -126 ≤ n ≤ 127."""
    return tirx.reinterpret("float32", (n + _i(127)) << _i(23))


def _or_nan(x: Any, value: Any) -> Any:
    return tirx.Select(tirx.EQ(x, x), value, x)


def _reduced_exp(x: Any, scale: Callable[[Any, Any], Any]) -> Any:
    """``scale(eʳ, n)`` with x = n · ln 2 + r; finite x only."""
    half = tirx.Select(x < _f(0.0), _f(-0.5), _f(0.5))

    def with_exponent(n: Any) -> Any:
        whole = tirx.Cast("float32", n)
        rest = (x - whole * _f(_LN2_HIGH)) - whole * _f(_LN2_LOW)
        return _let("r", rest, lambda r: scale((r * r) * _polynomial(r, _EXP) + r + _f(1.0), n))

    return _let("n", tirx.Cast("int32", x * _f(_LOG2_E) + half), with_exponent)


def _exp(x: Any) -> Any:
    """Scaled in two steps, so that results beyond 2¹²⁷ and below 2⁻¹²⁶ are right as well."""

    def scale(value: Any, n: Any) -> Any:
        return _let("h", n >> _i(1), lambda h: value * _power_of_two(h) * _power_of_two(n - h))

    # e⁸⁹ is infinite and e⁻¹⁰⁴ is zero in float32.
    bounded = tirx.Max(_f(-104.0), tirx.Min(_f(89.0), x))
    return _or_nan(x, _let("a", bounded, lambda a: _reduced_exp(a, scale)))


def _bounded_exp(x: Any) -> Any:
    """Eˣ for -87 ≤ x ≤ 88."""
    return _let("a", x, lambda a: _reduced_exp(a, lambda value, n: value * _power_of_two(n)))


def _log(x: Any) -> Any:
    """x = 2ᵉ · (1 + f) with √½ ≤ 1 + f < √2; a subnormal x is scaled up first."""
    tiny = x < _f(1.17549435e-38)

    def from_bits(b: Any) -> Any:
        return _let("e", (b - _i(0x3F3504F3)) >> _i(23), lambda e: from_exponent(b, e))

    def from_exponent(b: Any, e: Any) -> Any:
        mantissa = tirx.reinterpret("float32", b - (e << _i(23)))
        shift = tirx.Select(tiny, _f(-23.0), _f(0.0))
        exponent = tirx.Cast("float32", e) + shift
        return _let("f", mantissa - _f(1.0), lambda f: _let("k", exponent, lambda k: combine(f, k)))

    def combine(f: Any, k: Any) -> Any:
        def with_s(s: Any) -> Any:
            # log(1 + f) = f - s · (f - s² · Q(s²))
            tail = _let("z", s * s, lambda z: z * _polynomial(z, _LOG))
            return k * _f(_LN2_HIGH) + (f - (s * (f - tail) - k * _f(_LN2_LOW)))

        return _let("s", f / (f + _f(2.0)), with_s)

    finite = _let("b", _bits(tirx.Select(tiny, x * _f(8388608.0), x)), from_bits)
    infinity, nan = tirx.infinity("float32"), _f(float("nan"))
    positive = tirx.Select(x < infinity, finite, x)
    return _or_nan(
        x,
        tirx.Select(x > _f(0.0), positive, tirx.Select(tirx.EQ(x, _f(0.0)), -infinity, nan)),
    )


def _tanh(x: Any) -> Any:
    """An odd polynomial near zero, 1 - 2 / (e²ˣ + 1) beyond."""
    small = _let("z", x * x, lambda z: x + x * z * _polynomial(z, _TANH))

    def large(a: Any) -> Any:
        growth = _bounded_exp(tirx.Min(_f(10.0), a) * _f(2.0))
        value = _f(1.0) - _f(2.0) / (growth + _f(1.0))
        signed = tirx.Select(x < _f(0.0), _f(0.0) - value, value)
        return _or_nan(x, tirx.Select(a < _f(0.625), small, signed))

    return _let("m", _absolute(x), large)


def _erf(x: Any) -> Any:
    """An odd polynomial up to 1, 1 - e⁻ᵖ⁽ˣ⁾ beyond."""
    small = _let("z", x * x, lambda z: x + x * _polynomial(z, _ERF_SMALL))

    def large(a: Any) -> Any:
        bounded = tirx.Max(_f(1.0), tirx.Min(_f(4.0), a))
        decay = _let(
            "t", bounded - _f(2.0), lambda t: _bounded_exp(_f(0.0) - _polynomial(t, _ERF_LARGE))
        )
        value = _f(1.0) - decay
        signed = tirx.Select(x < _f(0.0), _f(0.0) - value, value)
        return _or_nan(x, tirx.Select(a < _f(1.0), small, signed))

    return _let("m", _absolute(x), large)


def _sigmoid(x: Any) -> Any:
    return _f(1.0) / (_f(1.0) + _let("y", _f(0.0) - x, _exp))


def _absolute(x: Any) -> Any:
    return tirx.Max(x, _f(0.0) - x)


def _power(call: Call) -> Any:
    """Multiply out xⁿ for a constant integer 0 < |n| ≤ 8."""
    base, exponent = call.args
    if not isinstance(exponent, tirx.FloatImm) or not float(exponent.value).is_integer():
        return call
    n = int(exponent.value)
    if not 0 < abs(n) <= 8:
        return call

    def chain(x: Any) -> Any:
        power = _multiplied(x, abs(n))
        return power if n > 0 else _f(1.0) / power

    return _let("x", base, chain)


def _multiplied(x: Any, n: int) -> Any:
    if n == 1:
        return x
    half = _let("p", _multiplied(x, n // 2), lambda p: p * p)
    return half * x if n % 2 else half


_EXPANSIONS: dict[str, Callable[[Any], Any]] = {
    "tirx.exp": _exp,
    "tirx.log": _log,
    "tirx.tanh": _tanh,
    "tirx.erf": _erf,
    "tirx.sigmoid": _sigmoid,
}

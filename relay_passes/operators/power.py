"""Our lowering of ``relax.power`` with a small whole exponent: multiplications.

TVM's prints a warning for every exponent from 3 on, whenever it looks at the call, for what a
negative base might do in its fast form.
"""

from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.ir import GenericConst

LARGEST = 8
"""Exponent that is multiplied out: x⁸ takes three multiplications."""


def te_power(x: te.Tensor, exponent: int) -> te.Tensor:
    """y[i…] = x[i…]ⁿ for 1 ≤ |n|, by squares."""

    def product(value: Any, n: int) -> Any:
        if n == 1:
            return value
        half = product(value, n // 2)
        return half * half * value if n % 2 else half * half

    def element(*i: Any) -> Any:
        whole = product(x(*i), abs(exponent))
        return whole if exponent > 0 else tirx.const(1, str(x.dtype)) / whole

    return te.compute(x.shape, element, name="power")


def legalize_power(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Multiply out a small whole constant exponent; lower others as TVM does."""
    x, exponent = call.args
    if isinstance(exponent, GenericConst) and not len(exponent.ty.shape):
        n = float(exponent.value.numpy())
        whole = n.is_integer() and 1 <= abs(n) <= LARGEST
        if whole and str(x.ty.dtype).startswith("float") and not isinstance(x, GenericConst):
            return bb.call_te(lambda t: te_power(t, int(n)), x, primfunc_name_hint="power")
    return tvm.ir.Op.get("relax.power").get_attr("FLegalize")(bb, call)

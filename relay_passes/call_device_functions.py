"""Call a device's own functions where TVM knows none for it, and would call the C library's.

Before:  y[i] = T.log1p(x[i])              # printed as log1pf(…), which OpenCL and Metal lack
After:   y[i] = log1p(x[i])                # OpenCL
         y[i] = let u = 1 + x in (x if u = 1 else log(u) · x / (u - 1))      # Metal has none

The second form is exact to a few roundings where 1 + x is rounded (W. Kahan, as D. Goldberg cites
it in "What every computer scientist should know about floating-point arithmetic", 1991). CUDA has
the functions of the C library. Run it on lowered launches, before ``LowerIntrin``.
"""

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call

_SHARED = (
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "copysign",
    "cosh",
    "sinh",
    "tan",
)
_FUNCTIONS = {
    "metal": _SHARED,
    "opencl": (*_SHARED, "hypot", "ldexp", "log1p", "log10", "nextafter"),
}
"""Functions of float32 that each language has by the C library's name (their specifications)."""


@tvm.transform.module_pass(opt_level=0, name="CallDeviceFunctions")
class CallDeviceFunctions:
    """Replace the functions in every PrimFunc, which says what it is compiled for."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module with calls that the device's compiler knows."""
        functions = {var: _replace(func) for var, func in mod.functions.items()}
        return tvm.IRModule(functions, attrs=mod.attrs)


def _replace(func: tirx.PrimFunc) -> tirx.PrimFunc:
    kind = str(func.attrs["target"].kind.name)
    if kind not in _FUNCTIONS:
        return func

    def own(call: Call) -> Any:
        name = str(getattr(call.op, "name", "")).removeprefix("tirx.")
        if str(call.ty) != "float32":
            return call
        if name in _FUNCTIONS[kind]:
            return tirx.call_pure_extern("float32", name, *call.args)
        return _log1p(call.args[0]) if name == "log1p" else call

    body = tvm_ffi.structural_map(func.body, (Call, own), order="post")
    return func if body.same_as(func.body) else func.with_body(body)


def _log1p(x: Any) -> Any:
    one = tirx.const(1.0, "float32")
    v, u = tirx.Var("x", "float32"), tirx.Var("u", "float32")
    exact = tirx.Select(tirx.EQ(u, one), v, tirx.log(u) * v / (u - one))
    return tirx.Let(v, x, tirx.Let(u, v + one, exact))

"""Write float32 constants by their bits where a device's source would round them.

Before:  y[i] = x[i] * T.float32(0.3183098733425140)     # printed as 3.183099e-01f
After:   y[i] = x[i] * as_float(1050868099)

TVM prints seven digits into OpenCL and Metal sources; nine are needed to tell all float32 apart.
What seven digits hold exactly stays as it is. Run it on lowered launches.
"""

import struct
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

_FUNCTIONS = {"opencl": "as_float", "metal": "as_type<float>"}
"""What turns an integer into the float of the same bits, by kind of target."""


@tvm.transform.module_pass(opt_level=0, name="KeepConstantBits")
class KeepConstantBits:
    """Keep the bits of the constants in every PrimFunc, which says what it is compiled for."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module with the constants that would change written by their bits."""
        functions = {var: _keep(func) for var, func in mod.functions.items()}
        return tvm.IRModule(functions, attrs=mod.attrs)


def _keep(func: tirx.PrimFunc) -> tirx.PrimFunc:
    function = _FUNCTIONS.get(str(func.attrs["target"].kind.name))
    if function is None:
        return func

    def exact(constant: tirx.FloatImm) -> Any:
        value = float(constant.value)
        if str(constant.ty) != "float32" or np.float32(f"{value:.6e}") == np.float32(value):
            return constant
        (bits,) = struct.unpack("<i", struct.pack("<f", value))
        return tirx.call_pure_extern("float32", function, tirx.const(bits, "int32"))

    body = tvm_ffi.structural_map(func.body, (tirx.FloatImm, exact), order="post")
    return func if body.same_as(func.body) else func.with_body(body)

"""Give all vector loops of one length in a kernel the same variable.

Before:  for v in vectorized(16): a[v] = 0;  for w in vectorized(16): b[w] = 0
After:   for v in vectorized(16): a[v] = 0;  for v in vectorized(16): b[v] = 0

``FlattenBuffer`` simplifies every index over every variable that the kernel has had so far, also of
loops that are closed: over the thousands of short vector loops that an unrolled convolution has,
its time is quadratic, up to fifteen seconds for one kernel. Run it just before. A vector loop holds
no other, so no loop comes to stand inside one of its own variable; ``ConvertSSA`` tells them apart
again.
"""

import tvm
import tvm_ffi
from tvm import tirx


@tvm.transform.module_pass(opt_level=0, name="ShareLaneVariables")
class ShareLaneVariables:
    """Share the variables of vector loops within every PrimFunc."""

    def transform_module(
        self, mod: tvm.IRModule, _context: tvm.transform.PassContext
    ) -> tvm.IRModule:
        """Return the module with fewer variables."""
        functions = {
            name: share_lane_variables(func) if isinstance(func, tirx.PrimFunc) else func
            for name, func in mod.functions.items()
        }
        return tvm.IRModule(functions, attrs=mod.attrs)


def share_lane_variables(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Rename the variables of one kernel's vector loops."""
    shared: dict[tuple[int, str], tirx.Var] = {}

    def rename(loop: tirx.For) -> tirx.For:
        if loop.kind != tirx.ForKind.VECTORIZED or not isinstance(loop.extent, tirx.IntImm):
            return loop
        first, key = loop.loop_var, (int(loop.extent.value), str(loop.loop_var.ty.dtype))
        variable = shared.setdefault(key, first)
        if variable.same_as(first):
            return loop

        def other(v: tirx.Var) -> tirx.Var:
            return variable if v.same_as(first) else v

        body = tvm_ffi.structural_map(loop.body, (tvm.ir.Var, other), order="post")
        return tirx.For(variable, loop.min, loop.extent, loop.kind, body)

    body = tvm_ffi.structural_map(func.body, (tirx.For, rename), order="post")
    return func if body.same_as(func.body) else func.with_body(body)

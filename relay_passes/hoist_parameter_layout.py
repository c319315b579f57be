"""Store a parameter the way its readers want it, instead of transposing it in every step.

Before:  main(w: [out, in]):   wt = permute_dims(w, [1, 0]);  y = matmul(x, wt)
After:   main(w: [in, out]):   y = matmul(x, w)                 stored_axes = {"w": [1, 0]}

The attribute ``stored_axes`` of ``main`` maps the name of each such parameter to the permutation
applied to it; the artifact keeps it, so that an export gives the model's own layout back. A
parameter whose readers disagree (a tied embedding, say) stays as it is. Run it after
``SimplifyShapes``.
"""

import tvm
from tvm import relax

from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, rewrite_main, static_shape
from pock_tvm.relay_passes.simplify_shapes import permutation_of


@tvm.transform.module_pass(opt_level=0, name="HoistParameterLayout")
class HoistParameterLayout:
    """Give every parameter that is only ever read through one transpose the transposed layout."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        axes_of = _agreed_axes(mod["main"])
        renamed = {
            p: relax.Var(p.name, relax.TensorType([static_shape(p)[a] for a in axes], p.ty.dtype))
            for p, axes in axes_of.items()
        }
        hoisted = set(renamed.values())

        def drop(_bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if is_call_to(value, "relax.permute_dims") and value.args[0] in hoisted:
                return value.args[0]
            return value

        out = rewrite_main(mod, drop, rename=renamed)
        stored = {p.name: list(axes) for p, axes in axes_of.items()}
        out["main"] = out["main"].with_attr("stored_axes", stored)
        return out


def _agreed_axes(func: relax.Function) -> dict[relax.Var, tuple[int, ...]]:
    readings: dict[relax.Var, set[tuple[int, ...] | None]] = {p: set() for p in func.params}
    for binding in bindings_of(func):
        value = binding.value
        transposed = is_call_to(value, "relax.permute_dims")
        for var in relax.analysis.free_vars(value):
            if var in readings:
                readings[var].add(permutation_of(value) if transposed else None)
    return {
        p: axes
        for p, seen in readings.items()
        if len(seen) == 1 and (axes := next(iter(seen))) is not None
    }

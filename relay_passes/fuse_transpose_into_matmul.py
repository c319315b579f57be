"""Let a matrix product read its operands through their transposes.

Before:  lv = permute_dims(w, axes=[1, 0]);  y = matmul(ct, lv)
After:   y = pock.matmul(ct, w, x_axes=[0, 1], y_axes=[1, 0])

The gradients of a product are products with one operand transposed, and attention permutes its
heads to the front. The kernel packs what it reads anyway, so the copy is for nothing. Run it after
``DeriveBackward`` and before ``LegalizeOps``.
"""

import tvm
from tvm import relax

from pock_tvm.relay_passes.operators.matmul import permuted_matmul
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main


@tvm.transform.module_pass(opt_level=0, name="FuseTransposeIntoMatmul")
class FuseTransposeIntoMatmul:
    """Rewrite ``matmul`` of ``permute_dims`` to ``pock.matmul``."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        permuted: dict[relax.Var, tuple[relax.Expr, tuple[int, ...]]] = {}

        def source(operand: relax.Expr) -> tuple[relax.Expr, tuple[int, ...]]:
            rank = len(operand.ty.shape)
            return permuted.get(operand, (operand, tuple(range(rank))))

        def fuse(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if is_call_to(value, "relax.permute_dims"):
                base, inner = source(value.args[0])
                var = bb.emit(value)
                permuted[var] = (base, tuple(inner[a] for a in _axes(value)))
                return var
            if not is_call_to(value, "relax.matmul"):
                return value
            x, y = value.args
            if not ({x, y} & permuted.keys()) or value.ty.dtype != x.ty.dtype:
                return value
            (x_base, x_axes), (y_base, y_axes) = source(x), source(y)
            return permuted_matmul(x_base, y_base, x_axes, y_axes)

        return relax.transform.DeadCodeElimination()(rewrite_main(mod, fuse))


def _axes(call: relax.Call) -> tuple[int, ...]:
    rank = len(call.args[0].ty.shape)
    if call.attrs.axes is None:
        return tuple(reversed(range(rank)))
    return tuple(int(a) % rank for a in call.attrs.axes)

"""Write attention out, for some queries at a time.

Before:  y = pock.attention(q, kᵀ, v, bias)
After:   for each tile of queries: yₜ = matmul(softmax(matmul(qₜ, kᵀ) · c + biasₜ), v)
         y = concat(y₀, y₁, …)

The gradient likewise; `operators.attention` has the equations. The tiles are ordinary operators,
which are ordered, fused and scheduled as all others. Run it before ``FuseTransposeIntoMatmul``.
"""

import tvm
from tvm import relax

from pock_tvm.relay_passes.operators.attention import expand_attention, expand_attention_grad
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main


@tvm.transform.module_pass(opt_level=0, name="TileAttention")
class TileAttention:
    """Replace ``pock.attention`` and its gradient by their tiles."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""

        def expand(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if is_call_to(value, "pock.attention"):
                return expand_attention(bb, value)
            if is_call_to(value, "pock.attention_grad"):
                return expand_attention_grad(bb, value)
            return value

        return rewrite_main(mod, expand)

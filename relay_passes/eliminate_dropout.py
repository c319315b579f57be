"""Take dropout out: prediction, evaluation, and training that does not ask for it.

Before:  y = pock.dropout(x);  use(y)
After:   use(x)

Importers keep every dropout of a model. Run it, or else ``SeedDropout``, before ``FoldConstants``.
"""

import tvm
from tvm import relax

from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, rewrite_main


def count_dropouts(mod: tvm.IRModule) -> int:
    """Return how many dropouts ``main`` applies."""
    return sum(is_call_to(binding.value, "pock.dropout") for binding in bindings_of(mod["main"]))


@tvm.transform.module_pass(opt_level=0, name="EliminateDropout")
class EliminateDropout:
    """Replace every ``pock.dropout`` by its operand."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""

        def eliminate(_bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            return value.args[0] if is_call_to(value, "pock.dropout") else value

        return rewrite_main(mod, eliminate)

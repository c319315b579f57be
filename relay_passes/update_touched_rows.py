"""Update a table of embeddings by the rows that the batch has read.

Before:  w̄ = scatter_add(ȳ, indices);  w' = w - η · w̄
After:   w' = row_update(w, indices, ȳ, η)           # in place: only the rows ``indices``

Exact for plain gradient descent: a row that was not read has the gradient zero. An optimizer with
state or weight decay moves such rows too, so its updates stay as they are; so does a table with
another gradient, a tied output layer say. Run it after ``AppendOptimizer``.
"""

import tvm
from tvm import relax

from pock_tvm.relay_passes.operators.row_update import row_update
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main


@tvm.transform.module_pass(opt_level=0, name="UpdateTouchedRows")
class UpdateTouchedRows:
    """Replace ``w - η · scatter_add(…)`` along axis 0 by ``pock.row_update``."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        made: dict[relax.Var, relax.Expr] = {}

        def shrink(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            update = _match(value, made)
            if isinstance(value, relax.Call):
                var = bb.emit(value if update is None else update)
                made[var] = value
                return var
            return value

        return relax.transform.DeadCodeElimination()(rewrite_main(mod, shrink))


def _match(value: relax.Expr, made: dict[relax.Var, relax.Expr]) -> relax.Call | None:
    """Return the row update that ``value`` amounts to, or None."""
    if not is_call_to(value, "relax.subtract"):
        return None
    w, scaled = value.args
    product = made.get(scaled)
    if not is_call_to(product, "relax.multiply"):
        return None
    rate, gradient = product.args
    dense = made.get(gradient)
    if not is_call_to(dense, "pock.scatter_add") or int(dense.attrs["axis"]) != 0:
        return None
    if len(w.ty.shape) != 2 or len(rate.ty.shape) != 0:
        return None
    ct, indices = dense.args
    return row_update(w, indices, ct, rate)

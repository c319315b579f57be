"""Where each value of a list stands for the first time.

``pock.first_occurrence(i)``: f[r] = min { s : i[s] = i[r] }. Gradients of a row that a batch has
read several times are summed there, without a table of the size of the vocabulary.
"""

from typing import Any

from tvm import relax, te, tirx

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def te_first_occurrence(indices: te.Tensor) -> te.Tensor:
    """f[r] = min over s of (s where i[s] = i[r], else n)."""
    count = int(indices.shape[0])
    s = te.reduce_axis((0, count), "s")

    def first(r: Any) -> Any:
        place = tirx.if_then_else(
            indices[s] == indices[r], s.astype("int32"), tirx.const(count, "int32")
        )
        return te.min(place, axis=s)

    return te.compute((count,), first, name="first_occurrence")


def _infer(call: relax.Call) -> relax.TensorType:
    """Position of the first equal element, for each element of a vector."""
    return relax.TensorType(call.args[0].ty.shape, "int32")


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(te_first_occurrence, call.args[0], primfunc_name_hint="first_occurrence")


FIRST_OCCURRENCE = register_operator("pock.first_occurrence", infer_type=_infer, legalize=_legalize)


def first_occurrence(indices: relax.Expr) -> relax.Call:
    """Build ``pock.first_occurrence`` of a vector of integers."""
    return call_operator(FIRST_OCCURRENCE, indices)

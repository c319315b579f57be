"""Register an operator of our own with Relax.

Relax lets a package add operators from Python: a name, a rule that infers the output type, and a
rule that lowers a call to TIR. That keeps a gradient such as ``pock.conv2d_weight_grad`` one node
of the graph, which passes can match and count, until ``LegalizeOps`` turns it into loops.
"""

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Op

InferType = Callable[[relax.Call], Any]
Legalize = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def register_operator(name: str, *, infer_type: InferType, legalize: Legalize) -> Op:
    """Add the pure operator ``name`` to Relax and return it.

    Args:
        name: full name, ``pock.<snake_case>``.
        infer_type: call -> TensorType (or TupleType) of the output.
        legalize: (block builder, call) -> expression over ``call_tir``, often ``bb.call_te(...)``.
    """
    tvm.ir._ffi_api.RegisterOp(name, infer_type.__doc__ or name)
    op = Op.get(name)
    op.set_attr("FInferType", lambda call, _bb: infer_type(call))
    op.set_attr("FPurity", True)  # noqa: FBT003  (TVM's signature)
    op.set_attr("FLegalize", legalize)
    return op


def call_operator(op: Op, *args: relax.Expr, **attrs: Any) -> relax.Call:
    """Build a call of one of our operators; attributes may be numbers, strings, lists or None."""
    return relax.Call(op, list(args), attrs=tvm.ir.make_node("ir.DictAttrs", **attrs))

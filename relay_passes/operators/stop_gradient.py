"""``pock.stop_gradient(x) -> x``: the same values, which no gradient flows through."""

from tvm import relax, te

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def _infer(call: relax.Call) -> relax.TensorType:
    """The type of x."""
    return call.args[0].ty


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    def copy(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *i: x(*i), name="stop_gradient")

    return bb.call_te(copy, call.args[0], primfunc_name_hint="stop_gradient")


STOP_GRADIENT = register_operator("pock.stop_gradient", infer_type=_infer, legalize=_legalize)


def stop_gradient(x: relax.Expr) -> relax.Call:
    """Build ``pock.stop_gradient``; it fuses with whatever reads it."""
    return call_operator(STOP_GRADIENT, x)

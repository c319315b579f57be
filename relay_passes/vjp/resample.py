"""The VJP rule of resampling along an axis."""

from tvm.relax import Call, Expr, Var

from pock_tvm.relay_passes.operators.resample import resample, tables_of, transposed_tables
from pock_tvm.relay_passes.vjp.broadcast import shape_of
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("pock.resample")
def resample_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = A x along an axis: x̄ = Aᵀ ȳ, a resampling again. Nothing is saved."""
    axis = int(call.attrs["axis"])

    def x_bar() -> Expr:
        tables = transposed_tables(*tables_of(call), shape_of(call.args[0])[axis])
        return resample(ct, *tables, axis)

    return x_bar, None, None

"""Note in each call of an imported graph the module that it came from.

Before:  y = matmul(x, w)
After:   y = matmul(x, w)  # with a span whose source is "encoder.layer.0.query"

Errors about operators name that place.
"""

from collections.abc import Sequence

from tvm import IRModule, relax
from tvm.ir import SourceName, Span

from pock_tvm.relay_passes.rewrite import rewrite_main

WHOLE_MODEL = "the model itself"
"""Place of what stands in no module."""


def mark_origins(func: relax.Function, modules: Sequence[str | None]) -> relax.Function:
    """Give every call a span that names its module.

    Args:
        func: the imported function.
        modules: module path of each binding; None where several bindings make one operator of the
            source, all but the last of them.
    """
    by_order = []
    path = WHOLE_MODEL
    for module in reversed(modules):
        path = module or path
        by_order.append(path)

    def mark(_bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
        span = Span(SourceName(by_order.pop()), 0, 0, 0, 0)
        if isinstance(value, relax.Call):
            return relax.Call(value.op, value.args, value.attrs, value.ty_args, span)
        return value

    return rewrite_main(IRModule({"main": func}), mark)["main"]

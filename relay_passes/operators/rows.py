"""Views of some rows of a tensor, and of rows that make one tensor: no kernel, no copy.

    y = rows(x, begin, count)        # y[i, …] = x[begin + i, …]
    y = join_rows(x₀, x₁, …)         # one below the other; each xᵢ is written where it stands in y

``extract_step`` gives them their addresses; only results of kernels can be joined.
"""

from collections.abc import Sequence

from tvm import relax

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator
from pock_tvm.relay_passes.rewrite import static_shape


def _infer_rows(call: relax.Call) -> relax.TensorType:
    """Some rows of a tensor."""
    _, *rest = static_shape(call.args[0])
    return relax.TensorType((int(call.attrs["count"]), *rest), call.args[0].ty.dtype)


def _infer_join(call: relax.Call) -> relax.TensorType:
    """All rows of the operands."""
    counts, (_, *rest) = [static_shape(x)[0] for x in call.args], static_shape(call.args[0])
    return relax.TensorType((sum(counts), *rest), call.args[0].ty.dtype)


def _stays(_bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return call


ROWS = register_operator("pock.rows", infer_type=_infer_rows, legalize=_stays)
JOIN_ROWS = register_operator("pock.join_rows", infer_type=_infer_join, legalize=_stays)


def rows(x: relax.Expr, begin: int, count: int) -> relax.Call:
    """Build ``pock.rows``: ``count`` rows of x from row ``begin`` on."""
    return call_operator(ROWS, x, begin=begin, count=count)


def join_rows(parts: Sequence[relax.Expr]) -> relax.Call:
    """Build ``pock.join_rows``: the rows of all parts, in order."""
    return call_operator(JOIN_ROWS, *parts)

"""Attention that keeps no matrix of queries times keys, and its gradient.

    y = softmax(c · q kᵀ + bias) v

Both are computed for some queries at a time, against all keys: a tile of scores dies before the
next begins, and the backward pass computes it again (Rabe and Staats 2021, arXiv:2112.05682). With
P the tile's probabilities and D its row sums, the equations are FlashAttention-2's (Dao 2023,
arXiv:2307.08691, algorithm 2):

    v̄ = Σ over tiles of Pᵀ ȳ     P̄ = ȳ vᵀ     S̄ = P ∘ (P̄ - D), D = rowsum(P ∘ P̄)
    q̄ = c · S̄ k                 k̄ = Σ over tiles of c · S̄ᵀ q

A tile holds whole rows, so neither a running maximum nor a log-sum-exp has to be kept, and its
products are ordinary matrix products. ``bias`` has no gradient: it is a mask.
"""

from collections.abc import Sequence
from typing import Any

from tvm import relax, topi
from tvm.relax import op

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator
from pock_tvm.relay_passes.rewrite import static_shape

TILE = 64
"""Queries in a tile: rows enough for the matrix products."""

_ALONE = 8
"""Opaque to ``FuseOps``: one sum of all tiles behind the last would keep every tile for it."""


def expand_attention(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Write ``pock.attention`` as operators of Relax, tile by tile."""
    q, v = call.args[0], call.args[2]
    outputs = [
        bb.emit(op.matmul(_probabilities(bb, call, begin, end), v)) for begin, end in _tiles(q)
    ]
    return outputs[0] if len(outputs) == 1 else op.concat(outputs, axis=_rank(q) - 2)


def expand_attention_grad(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Write ``pock.attention_grad`` as operators of Relax, tile by tile."""
    *forward, ct = call.args
    q, k_transposed, v = forward[:3]
    scale = relax.const(float(call.attrs["scale"]), str(q.ty.dtype))
    q_bars, k_bar, v_bar = [], None, None
    k, v_transposed = bb.emit(_swapped(k_transposed)), bb.emit(_swapped(v))
    for begin, end in _tiles(q):
        p = _probabilities(bb, call, begin, end)
        y_bar = _rows(bb, ct, begin, end)
        p_bar = bb.emit(op.matmul(y_bar, v_transposed))
        total = bb.emit(op.sum(bb.emit(p * p_bar), axis=[-1], keepdims=True))
        s_bar = bb.emit(bb.emit(p * bb.emit(p_bar - total)) * scale)
        q_bars.append(bb.emit(op.matmul(s_bar, k)))
        tile = bb.emit(_swapped(_rows(bb, q, begin, end)))
        k_bar = _sum(bb, k_bar, bb.emit(op.matmul(tile, s_bar)))
        v_bar = _sum(bb, v_bar, bb.emit(op.matmul(bb.emit(_swapped(p)), y_bar)))
    q_bar = q_bars[0] if len(q_bars) == 1 else bb.emit(op.concat(q_bars, axis=_rank(q) - 2))
    return relax.Tuple([q_bar, k_bar, v_bar])


def _probabilities(bb: relax.BlockBuilder, call: relax.Call, begin: int, end: int) -> relax.Expr:
    """Return P of the queries from ``begin`` to ``end``."""
    q, k_transposed = call.args[:2]
    scale = relax.const(float(call.attrs["scale"]), str(q.ty.dtype))
    scores = bb.emit(op.matmul(_rows(bb, q, begin, end), k_transposed))
    scores = bb.emit(scores * scale)
    if int(call.attrs["biased"]):
        bias = call.args[3]
        one_row = _rank(bias) < 2 or int(bias.ty.shape[_rank(bias) - 2]) == 1
        part = bias if one_row else _rows(bb, bias, begin, end)
        scores = bb.emit(op.add(scores, part))
    return bb.emit(op.nn.softmax(scores, axis=-1))


def _tiles(q: relax.Expr) -> list[tuple[int, int]]:
    queries = int(q.ty.shape[_rank(q) - 2])
    return [(begin, min(begin + TILE, queries)) for begin in range(0, queries, TILE)]


def _rows(bb: relax.BlockBuilder, x: relax.Expr, begin: int, end: int) -> relax.Expr:
    axis = _rank(x) - 2
    if end - begin == int(x.ty.shape[axis]):
        return x
    return bb.emit(op.strided_slice(x, [axis], [begin], [end]))


def _swapped(x: relax.Expr) -> relax.Call:
    rank = _rank(x)
    return op.permute_dims(x, [*range(rank - 2), rank - 1, rank - 2])


def _sum(bb: relax.BlockBuilder, total: relax.Expr | None, part: relax.Expr) -> relax.Expr:
    return part if total is None else bb.emit(call_operator(ADD_TILE, total, part))


def _rank(x: relax.Expr) -> int:
    return len(x.ty.shape)


def _infer(call: relax.Call) -> relax.TensorType:
    """Attention over the last two axes."""
    q, v = static_shape(call.args[0]), static_shape(call.args[2])
    return relax.TensorType([*q[:-1], v[-1]], call.args[0].ty.dtype)


def _infer_grad(call: relax.Call) -> relax.TupleType:
    """Gradients of attention with respect to queries, transposed keys and values."""
    return relax.TupleType([relax.TensorType(a.ty.shape, a.ty.dtype) for a in call.args[:3]])


def _legalize_add(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(
        topi.add, *call.args, primfunc_name_hint="add_tile", primfunc_attrs={"op_pattern": _ALONE}
    )


def _infer_add(call: relax.Call) -> relax.TensorType:
    """A sum so far, and one tile more."""
    return call.args[0].ty


ADD_TILE = register_operator("pock.add_tile", infer_type=_infer_add, legalize=_legalize_add)
ATTENTION = register_operator("pock.attention", infer_type=_infer, legalize=expand_attention)
ATTENTION_GRAD = register_operator(
    "pock.attention_grad", infer_type=_infer_grad, legalize=expand_attention_grad
)


def attention(
    q: relax.Expr, k_transposed: relax.Expr, v: relax.Expr, bias: Sequence[relax.Expr], scale: float
) -> relax.Call:
    """Build ``pock.attention``: [..., s, d], [..., d, t], [..., t, e] -> [..., s, e].

    Args:
        q: queries.
        k_transposed: keys; the leading axes of all three are the same.
        v: values.
        bias: none or one, of a shape that broadcasts to the scores.
        scale: what the products are multiplied by.
    """
    attrs: dict[str, Any] = {"scale": scale, "biased": len(bias)}
    return call_operator(ATTENTION, q, k_transposed, v, *bias, **attrs)


def attention_grad(call: relax.Call, ct: relax.Expr) -> relax.Call:
    """Build ``pock.attention_grad`` of a call of ``pock.attention``."""
    attrs = {"scale": float(call.attrs["scale"]), "biased": int(call.attrs["biased"])}
    return call_operator(ATTENTION_GRAD, *call.args, ct, **attrs)

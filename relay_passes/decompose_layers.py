"""Write layers that importers hand on as one operator as those that have a derivative.

Before:  y = nn.attention(q, k, v, bias)                                  [batch, place, head, d]
After:   s = matmul(q as [batch, head, place, d] · scale, kᵀ) + bias;  s' = where(allowed, s, -∞)
         y = matmul(softmax(s'), v) as [batch, place, head, d]

Before:  y = nn.instance_norm(x, γ, β)
After:   y = nn.group_norm(x, γ, β, groups=channels)

ONNX files of ``com.microsoft`` hold such attention. TVM itself would lower it to a kernel of its
own, and instance norms in float32 only. Run it before ``ConvertToChannelsLast``.
"""

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape


@tvm.transform.module_pass(opt_level=0, name="DecomposeLayers")
class DecomposeLayers:
    """Replace attention and instance norms.

    Raises:
        UnsupportedModelError: attention within a sliding window.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""

        def decompose(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if is_call_to(value, "relax.nn.attention", "relax.nn.attention_bias"):
                return _attention(bb, value)
            if is_call_to(value, "relax.nn.instance_norm"):
                return _group_norm(value)
            return value

        return relax.transform.DeadCodeElimination()(rewrite_main(mod, decompose))


def _attention(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    query, key, value, *bias = call.args
    attrs, dtype = call.attrs, str(query.ty.dtype)
    if attrs.window_size is not None:
        raise UnsupportedModelError(
            "attention within a sliding window is not supported; export it as a mask"
        )
    width = static_shape(query)[-1]
    factor = width**-0.5 if attrs.scale is None else float(attrs.scale)
    q = bb.emit(op.permute_dims(query, [0, 2, 1, 3]))
    q = bb.emit(op.multiply(q, relax.const(factor, dtype)))
    k_transposed = bb.emit(op.permute_dims(key, [0, 2, 3, 1]))
    v = bb.emit(op.permute_dims(value, [0, 2, 1, 3]))
    scores = bb.emit(op.matmul(q, k_transposed))
    if bias:
        scores = bb.emit(op.add(scores, bias[0]))
    if attrs.causal_mask is not None:
        allowed = _causal(str(attrs.causal_mask), static_shape(query)[1], static_shape(key)[1])
        lowest = relax.const(-np.inf, dtype)
        scores = bb.emit(op.where(relax.const(allowed, "bool"), scores, lowest))
    y = bb.emit(op.matmul(bb.emit(op.nn.softmax(scores, -1)), v))
    return op.permute_dims(y, [0, 2, 1, 3])


def _causal(corner: str, queries: int, keys: int) -> np.ndarray:
    """Tell which keys each query sees; the diagonal starts in one corner or ends in the other."""
    offset = abs(keys - queries) if corner == "BottomRight" else 0
    return np.tril(np.ones((queries, keys), "bool"), offset)


def _group_norm(call: relax.Call) -> relax.Expr:
    x, gamma, beta = call.args
    channel = int(call.attrs.channel_axis)
    groups = static_shape(x)[channel]
    axes, epsilon = [int(a) for a in call.attrs.axes], float(call.attrs.epsilon)
    return op.nn.group_norm(x, gamma, beta, groups, channel, axes, epsilon)

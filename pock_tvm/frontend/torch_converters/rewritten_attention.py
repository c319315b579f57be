"""Attention as its products and a softmax.

PyTorch's own decomposition multiplies by the root of the scale on both sides, and TVM's operator
takes no boolean mask.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Drop(softmax(q kᵀ · scale + mask)) v; a query that no key is allowed for gets zeros."""
    assert not dropout_p, "mark_dropouts has given it a marker"
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    weights = _weights(scores, attn_mask, is_causal=is_causal)
    return (weights if drop is None else drop(weights)) @ value


def _weights(scores: Tensor, mask: Tensor | None, *, is_causal: bool) -> Tensor:
    if is_causal:
        rows, columns = scores.shape[-2:]
        allowed = torch.ones(rows, columns, dtype=torch.bool, device=scores.device).tril()
        # The first key is always allowed, so no row is empty.
        return scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype != torch.bool:
        return (scores + mask).softmax(-1)
    lowest = torch.finfo(scores.dtype).min
    return torch.where(mask, torch.where(mask, scores, lowest).softmax(-1), 0.0)

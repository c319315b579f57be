"""PyTorch operators that are written out as others before the import."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pock_tvm.frontend.torch_converters import rewritten_along_axis
from pock_tvm.frontend.torch_converters.rewritten_attention import attention

aten = torch.ops.aten


def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,  # noqa: FBT001, FBT002
    mode: int = 0,
    sparse: bool = False,  # noqa: FBT001, FBT002
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,  # noqa: FBT001, FBT002
    padding_idx: int = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Σ, mean or max of the rows of each bag, a product with who is in which bag."""
    if scale_grad_by_freq or padding_idx >= 0:
        raise NotImplementedError("embedding_bag with a padding row or gradients by frequency")
    rows = weight.index_select(0, indices)
    starts = offsets[:-1] if include_last_offset else offsets
    places = torch.arange(indices.shape[0], device=indices.device)
    bag = (starts[:, None] <= places).sum(0) - 1
    member = bag == torch.arange(starts.shape[0], device=indices.device)[:, None]
    sizes = member.sum(1)
    if mode == 2:
        masked = torch.where(member[:, :, None], rows, float("-inf")).amax(1)
        out = torch.where(sizes[:, None] > 0, masked, 0.0)
    else:
        share = member.to(weight.dtype)
        if per_sample_weights is not None:
            share = share * per_sample_weights
        out = share @ rows
        if mode == 1:
            out = out / sizes.to(weight.dtype).clamp(min=1.0)[:, None]
    return out, bag, sizes, sizes


def bilinear(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z_o = Σ x_i w_oij y_j + b_o."""
    out = torch.einsum("...i,oij,...j->...o", x, weight, y)
    return out if bias is None else out + bias


def masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The n-th place of the mask gets the n-th element of the source."""
    allowed = mask.expand(x.shape).reshape(-1)
    place = allowed.to(torch.int64).cumsum(0).sub(1).clamp(min=0)
    return torch.where(allowed, source.reshape(-1).index_select(0, place), x.reshape(-1)).reshape(
        x.shape
    )


def addbmm(x: Tensor, y: Tensor, z: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Beta · x + alpha · Σ y @ z over the batch."""
    return beta * x + alpha * (y @ z).sum(0)


def add_scaled(x: Tensor, y: Tensor | float, *, alpha: float = 1) -> Tensor:
    """X + alpha · y; TVM's converter leaves alpha out."""
    return NotImplemented if alpha == 1 else x + y * alpha


def subtract_scaled(x: Tensor, y: Tensor | float, *, alpha: float = 1) -> Tensor:
    """X - alpha · y."""
    return NotImplemented if alpha == 1 else x - y * alpha


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    **rewritten_along_axis.DECOMPOSITIONS,
    aten.scaled_dot_product_attention.default: attention,
    aten._embedding_bag.default: embedding_bag,
    aten._embedding_bag_forward_only.default: embedding_bag,
    aten.bilinear.default: bilinear,
    aten.masked_scatter.default: masked_scatter,
    aten.add.Tensor: add_scaled,
    aten.sub.Tensor: subtract_scaled,
    aten.addbmm.default: addbmm,
}
"""What to write out, and how; handed to ``run_decompositions``."""

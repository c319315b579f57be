"""PyTorch operators along axes that are written out as others before the import."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def extremum(x: Tensor, places: Tensor, dim: int, *, keepdim: bool) -> tuple[Tensor, Tensor]:
    """Return the elements at ``places``, one along ``dim``, and the places."""
    values = x.gather(dim, places)
    return (values, places) if keepdim else (values.squeeze(dim), places.squeeze(dim))


def max_along(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:  # noqa: FBT001, FBT002
    """``max(x, dim)``: the whole gradient goes to the element that is returned."""
    return extremum(x, x.argmax(dim, keepdim=True), dim, keepdim=keepdim)


def min_along(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:  # noqa: FBT001, FBT002
    """``min(x, dim)``."""
    return extremum(x, x.argmin(dim, keepdim=True), dim, keepdim=keepdim)


def kth_along(
    x: Tensor,
    k: int,
    dim: int = -1,
    keepdim: bool = False,  # noqa: FBT001, FBT002
) -> tuple[Tensor, Tensor]:
    """``kthvalue``: the k-th of the elements in order, counted from 1."""
    places = x.sort(dim)[1].narrow(dim, k - 1, 1)
    return extremum(x, places, dim, keepdim=keepdim)


def median_along(x: Tensor, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:  # noqa: FBT001, FBT002
    """``median(x, dim)``: of an even number of elements the lower one in the middle."""
    return kth_along(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def median(x: Tensor) -> Tensor:
    """``median(x)`` of all elements."""
    return median_along(x.reshape(-1), 0)[0]


def var_mean(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Tensor, Tensor]:
    """``var_mean(x, dim)``."""
    axes = list(range(x.ndim)) if dim is None else list(dim)
    return x.var(axes, correction=correction, keepdim=keepdim), x.mean(axes, keepdim=keepdim)


def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """y_i = log Σ e^x_j over j ≤ i, each sum scaled by its own maximum: n² elements in between."""
    if x.ndim == 0:
        return x
    rows = x.movedim(dim, -1)
    later = torch.ones(rows.shape[-1], rows.shape[-1], dtype=torch.bool, device=x.device).triu(1)
    summands = rows.unsqueeze(-2).masked_fill(later, float("-inf"))
    return summands.logsumexp(-1).movedim(-1, dim)


def windows(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """``x.unfold``: every ``step``-th window of ``size`` elements, in a last axis of its own."""
    starts = torch.arange(0, x.shape[dimension] - size + 1, step, device=x.device)
    places = starts[:, None] + torch.arange(size, device=x.device)
    axis = dimension % x.ndim
    picked = x.index_select(axis, places.reshape(-1))
    return picked.unflatten(axis, places.shape).movedim(axis + 1, -1)


def distance(x: Tensor, y: Tensor, p: float = 2) -> Tensor:
    """``dist(x, y)``: the norm of the difference."""
    return torch.linalg.vector_norm(x - y, p)


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.max.dim: max_along,
    aten.min.dim: min_along,
    aten.kthvalue.default: kth_along,
    aten.median.dim: median_along,
    aten.median.default: median,
    aten.var_mean.correction: var_mean,
    aten.logcumsumexp.default: logcumsumexp,
    aten.unfold.default: windows,
    aten.dist.default: distance,
}
"""What to write out, and how; joined to those of ``rewritten``."""

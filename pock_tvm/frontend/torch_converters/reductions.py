"""Reductions and sums along an axis that TVM's converters lack, or give another element type."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import relax
from tvm.relax import op

_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.int64: "int64"}


def convert_cumsum(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``cumsum(x, dim)``, of integers and booleans as int64."""
    x, axis, *_ = importer.retrieve_args(node)
    dtype = _DTYPES.get(node.meta["val"].dtype)
    return importer.block_builder.emit(op.cumsum(x, axis, dtype))


def convert_product_along(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``prod(x, dim)``."""
    args = importer.retrieve_args(node)
    keep = args[2] if len(args) > 2 else node.kwargs.get("keepdim", False)
    return importer.block_builder.emit(op.prod(args[0], args[1], keep))


def extremum(reduce: Callable[..., relax.Expr]) -> Callable[..., relax.Var]:
    """Return the converter of ``amax`` or ``amin`` over any axes."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        args = importer.retrieve_args(node)
        axes = args[1] if len(args) > 1 else node.kwargs.get("dim", [])
        keep = args[2] if len(args) > 2 else node.kwargs.get("keepdim", False)
        axes = [axes] if isinstance(axes, int) else list(axes)
        return importer.block_builder.emit(reduce(args[0], axes or None, keep))

    return convert


def convert_norm(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``(Σ |x|ᵖ)^(1/p)``: sums of squares for p = 2, which need no absolute value."""
    args = importer.retrieve_args(node)
    x, order = args[0], args[1] if len(args) > 1 else 2
    axes: Sequence[int] | None = args[2] if len(args) > 2 else None
    keep = args[3] if len(args) > 3 else False
    bb = importer.block_builder
    dtype = str(x.ty.dtype)

    def number(value: float) -> relax.Expr:
        return relax.const(value, dtype)

    if order == 2:
        return bb.emit(op.sqrt(bb.emit(op.sum(bb.emit(x * x), axes, keep))))
    size = bb.emit(op.abs(x))
    if order in (float("inf"), float("-inf")):
        return bb.emit((op.max if order > 0 else op.min)(size, axes, keep))
    if order == 0:
        nonzero = bb.emit(op.astype(op.not_equal(x, number(0)), dtype))
        return bb.emit(op.sum(nonzero, axes, keep))
    powers = size if order == 1 else bb.emit(op.power(size, number(order)))
    total = bb.emit(op.sum(powers, axes, keep))
    return total if order == 1 else bb.emit(op.power(total, number(1 / order)))


CONVERTERS = {
    "cumsum.default": convert_cumsum,
    "amax.default": extremum(op.max),
    "amin.default": extremum(op.min),
    "linalg_vector_norm.default": convert_norm,
    "prod.dim_int": convert_product_along,
}

"""Matrix products. TVM's converters fix the result to float32."""

from typing import Any

import torch
from tvm import relax

from pock_tvm.relay_passes.vjp.broadcast import dtype_of


def convert_product(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``x @ y``, of any ranks."""
    x, y = importer.retrieve_args(node)
    return importer.block_builder.emit(relax.op.matmul(x, y))


def convert_added_product(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``beta · bias + alpha · x @ y``; where beta is 0 the bias does not count, even if NaN."""
    bias, x, y = importer.retrieve_args(node)
    alpha, beta = (node.kwargs.get(name, 1) for name in ("alpha", "beta"))
    bb = importer.block_builder
    product = _scaled(bb, bb.emit(relax.op.matmul(x, y)), alpha)
    if beta == 0:
        return product
    return bb.emit(relax.op.add(_scaled(bb, bias, beta), product))


def _scaled(bb: relax.BlockBuilder, x: relax.Expr, factor: float) -> relax.Expr:
    return x if factor == 1 else bb.emit(x * relax.const(factor, dtype_of(x)))


CONVERTERS = {
    **dict.fromkeys(("mm.default", "bmm.default", "mv.default", "matmul.default"), convert_product),
    **dict.fromkeys(("addmm.default", "baddbmm.default", "addmv.default"), convert_added_product),
}

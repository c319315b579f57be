"""Concatenation: ``torch.cat``."""

from typing import Any

import torch
from tvm import relax
from tvm.relax import op

from pock_tvm.frontend.torch_converters.arguments import arguments
from pock_tvm.relay_passes.vjp.broadcast import shape_of


def convert_cat(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """``cat([x₀, x₁, …], dim)``; a vector without elements joins anything.

    ``transformers`` begins its cache of keys and values with one.
    """
    tensors, axis = arguments(node, importer, 0)
    some = [x for x in tensors if list(shape_of(x)) != [0]] or tensors
    return some[0] if len(some) == 1 else importer.block_builder.emit(op.concat(some, axis))


CONVERTERS = {"cat.default": convert_cat}

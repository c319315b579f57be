"""Keep the padding row of an embedding out of the training, as PyTorch does.

Before:  y = take(w, i)                                     of Embedding(…, padding_idx=p)
After:   y = take(w, i);  y' = where(i = p, stop_gradient(y), y)

PyTorch gives that row no gradient; TVM's importer loses the index, since values do not need it.
"""

from collections.abc import Mapping

import torch
from tvm import IRModule, relax
from tvm.relax.op import equal, reshape, where

from pock_tvm.relay_passes.operators.stop_gradient import stop_gradient
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape


def padding_rows(
    program: torch.export.ExportedProgram, originals: Mapping[str, str]
) -> dict[str, int]:
    """Return the padding row by the name of the table, for tables that have one."""
    rows = {}
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.embedding.default:
            weight, _, padding = (*node.args, -1)[:3]
            if padding >= 0 and weight.name in originals:
                rows[originals[weight.name]] = int(padding)
    return rows


def freeze_padding_rows(func: relax.Function, rows: Mapping[str, int]) -> relax.Function:
    """Stop the gradient of each look-up of a padding row.

    Args:
        func: ``main``, its parameters under their own names.
        rows: padding row by table.
    """

    def freeze(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
        if not is_call_to(value, "relax.take") or not isinstance(value.args[0], relax.Var):
            return value
        table, indices = value.args
        if table.name not in rows:
            return value
        y = bb.emit(value)
        padding = bb.emit(equal(indices, relax.const(rows[table.name], str(indices.ty.dtype))))
        mask = bb.emit(reshape(padding, (*static_shape(indices), 1)))
        return where(mask, bb.emit(stop_gradient(y)), y)

    return rewrite_main(IRModule({"main": func}), freeze)["main"]

"""Give the optimizer only those rows of a table of embeddings that the batch has read.

Before:  w̄ = scatter_add(ȳ, i);  return loss, w̄
After:   f = first_occurrence(i);  s = scatter_add(ȳ, f)     # a row per index; repeats are summed
         t = where(f = position, i, -1)                      # in the first of them
         return loss, i, t, s                                # and a parameter w[rows]

``w[rows]`` is one row of the table per index, as a parameter; to the optimizer it is like any
other. ``WriteTouchedRows`` makes it, and its slots, rows of full tables again. This is the *lazy*
form of an optimizer with state: moments of rows that were not read do not decay, and such rows are
not moved. Run it after ``DeriveBackward``.
"""

import math
from collections.abc import Sequence

import numpy as np
import tvm
from tvm import relax
from tvm.relax.op import equal, reshape, where

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.operators.first_occurrence import first_occurrence
from pock_tvm.relay_passes.operators.scatter_add import scatter_add
from pock_tvm.relay_passes.rewrite import (
    bindings_of,
    is_call_to,
    returned_fields,
    static_shape,
    substitute,
)


def rows_name(table: str) -> str:
    """Return the name of the rows of a table as a parameter."""
    return f"{table}[rows]"


@tvm.transform.module_pass(opt_level=0, name="SliceTouchedRows")
class SliceTouchedRows:
    """Return the gradients of the rows that were read, and where they go.

    Args:
        tables: their names, in the order of ``trainable``.
        trainable: the parameters whose gradients ``main`` returns last, in order.

    Raises:
        UnsupportedModelError: the gradient of a table comes from more than one look-up.
    """

    def __init__(self, tables: Sequence[str], trainable: Sequence[str]) -> None:
        self.tables, self.trainable = tuple(tables), tuple(trainable)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        if not self.tables:
            return mod
        func = mod["main"]
        bindings = [b for b in bindings_of(func) if not isinstance(b.value, relax.Tuple)]
        values = {b.var: b.value for b in bindings}
        outputs = returned_fields(func)
        first = len(outputs) - len(self.trainable)
        params = [relax.Var(p.name, p.ty) for p in func.params]
        env: dict[relax.Var, relax.Expr] = dict(zip(func.params, params, strict=True))
        parts: list[relax.Var] = []
        places: list[relax.Expr] = []
        bb = relax.BlockBuilder()
        dense = {}
        for name, gradient in zip(self.trainable, outputs[first:], strict=True):
            if name in self.tables:
                dense[gradient] = name
                columns, count = _look_up(name, values.get(gradient))
                dtype = gradient.ty.dtype
                parts.append(relax.Var(rows_name(name), relax.TensorType((count, columns), dtype)))
        with bb.function("main", [*params, *parts], attrs=dict(func.attrs or {})):
            with bb.dataflow():
                for binding in bindings:
                    value = substitute(binding.value, env)
                    if binding.var in dense:
                        value, *where_to = _rows(bb, value, static_shape(binding.var)[1])
                        places += where_to
                    env[binding.var] = bb.emit(value)
                results = [substitute(v, env) for v in outputs]
                result = bb.emit_output(relax.Tuple([*results[:first], *places, *results[first:]]))
            bb.emit_func_output(result)
        out = mod.clone()
        out["main"] = bb.get()["main"]
        return relax.transform.DeadCodeElimination()(out)


def _look_up(table: str, gradient: relax.Expr | None) -> tuple[int, int]:
    """Return how many columns a table has, and how many rows of it a batch reads."""
    if not is_call_to(gradient, "pock.scatter_add") or int(gradient.attrs["axis"]) != 0:
        raise UnsupportedModelError(
            f"lazy-rows on {table}: its gradient comes from more than one look-up of rows (a tied "
            "output layer, say); leave `embeddings` out of the update scheme"
        )
    _, columns = static_shape(gradient)
    return columns, math.prod(static_shape(gradient.args[1]))


def _rows(
    bb: relax.BlockBuilder, gradient: relax.Call, columns: int
) -> tuple[relax.Expr, relax.Expr, relax.Expr]:
    """Emit the gradient of each row read, the indices, and where a new row is to be written."""
    ct, indices = gradient.args
    count = math.prod(static_shape(indices))
    flat = bb.emit(reshape(indices, (count,)))
    rows = bb.emit(reshape(ct, (count, columns)))
    first = bb.emit(first_occurrence(flat))
    position = relax.const(np.arange(count, dtype="int32"), "int32")
    nowhere = relax.const(-1, str(indices.ty.dtype))
    target = bb.emit(where(bb.emit(equal(first, position)), flat, nowhere))
    return scatter_add(rows, first, static_shape(rows), 0), flat, target

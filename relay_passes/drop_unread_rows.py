"""Compute only the rows that are read: a classifier reads one token of the last block.

Before:  h = gelu(matmul(x, w));  y = matmul(h, v);  z = take(y, 0, axis=1)      # of 128 tokens
After:   a = x[:, 0:1];  h = gelu(matmul(a, w));  z = reshape(matmul(h, v))      # of one

A slice goes up through whatever treats rows apart (``rows_read`` says what), as far as all readers
of a value want few of its rows. In the last block of a BERT this leaves the keys and values of all
tokens and one row of the rest, five sixths of the block's products; the backward pass is derived
from what is left, and multiplies no rows of zeros. A slice of more than half the rows stays where
it is, since what it spares is not worth its copies. Run it after ``SimplifyShapes``, and that again
after it.
"""

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from pock_tvm.relay_passes.batch_axis import flat_operands
from pock_tvm.relay_passes.rewrite import (
    bindings_of,
    is_call_to,
    static_shape,
    substitute,
    variables_read,
)
from pock_tvm.relay_passes.rows_read import Rows, operand_rows, rows_taken

Need = tuple[relax.Expr, Rows | None]
"""An operand and the rows of it that are read; None where all are."""


@tvm.transform.module_pass(opt_level=0, name="DropUnreadRows")
class DropUnreadRows:
    """Move slices of few rows up to where all rows are needed."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``; where nothing is left unread, return it as it is."""
        main = mod["main"]
        few = _narrow_values(main)
        if not few:
            return mod
        out = mod.clone()
        out["main"] = _Narrowing(main, few).build()
        return relax.transform.DeadCodeElimination()(out)


def _narrow_values(main: relax.Function) -> dict[relax.Var, Rows]:
    """Return the values of which every reader wants few rows, and which: from the last one up."""
    wanted: dict[relax.Var, Rows | None] = {}

    def want(expr: relax.Expr, rows: Rows | None) -> None:
        known = wanted.get(expr, rows)
        wanted[expr] = rows.joined(known) if rows is not None and known is not None else None

    narrow: dict[relax.Var, Rows] = {}
    for var in variables_read(main.body.body):
        want(var, None)
    for binding in reversed([*bindings_of(main)]):
        value = binding.value
        taken = rows_taken(value) if isinstance(value, relax.Call) else None
        if taken is not None:
            want(value.args[0], taken)
            continue
        rows = wanted.get(binding.var)
        needs = _needs(value, rows)
        if rows is None or needs is None or any(_is_parameter(main, *need) for need in needs):
            for var in variables_read(value):
                want(var, None)
            continue
        narrow[binding.var] = rows
        for operand, need in needs:
            want(operand, need)
    return narrow


def _needs(value: relax.Expr, rows: Rows | None) -> list[Need] | None:
    """Return what ``rows`` of a value need of its operands, where it can be computed for few."""
    if rows is None or 2 * rows.count > rows.extent or not isinstance(value, relax.Call):
        return None
    needs = operand_rows(value, rows)
    return None if needs is None else [*zip(flat_operands(value), needs, strict=True)]


def _is_parameter(main: relax.Function, operand: relax.Expr, need: Rows | None) -> bool:
    """Tell whether rows of a parameter would be cut out, and its gradient put back into zeros."""
    return need is not None and any(operand.same_as(p) for p in main.params)


class _Narrowing:
    """Rebuilds ``main`` with the rows that are read."""

    def __init__(self, main: relax.Function, few: dict[relax.Var, Rows]) -> None:
        self.main, self.few = main, few
        self.bb = relax.BlockBuilder()
        self.env: dict[relax.Var, relax.Expr] = {}
        self.held: dict[relax.Var, Rows] = {}
        """The rows that are left of the values that are narrowed, by their new variables."""

    def build(self) -> relax.Function:
        main, bb = self.main, self.bb
        params = [relax.Var(p.name, p.ty) for p in main.params]
        self.env.update(zip(main.params, params, strict=True))
        with bb.function("main", params, attrs=dict(main.attrs or {})):
            with bb.dataflow():
                for binding in bindings_of(main):
                    self.env[binding.var] = self.bound(binding.var, binding.value)
                output = bb.emit_output(substitute(main.body.body, self.env))
            bb.emit_func_output(output)
        return bb.get()["main"]

    def bound(self, var: relax.Var, value: relax.Expr) -> relax.Expr:
        taken = rows_taken(value) if isinstance(value, relax.Call) else None
        source = self.env.get(value.args[0]) if taken is not None else None
        if taken is not None and source in self.held:
            return self.bb.emit(relax.op.reshape(self.cut(source, taken), static_shape(value)))
        rows = self.few.get(var)
        needs = _needs(value, rows)
        if rows is not None and needs is not None:
            views = is_call_to(value, "relax.reshape", "relax.permute_dims")
            if not views or self.env.get(needs[0][0]) in self.held:
                new = self.bb.emit(self.narrowed(value, rows, needs))
                self.held[new] = rows
                return new
        new = substitute(value, self.env)
        kept = isinstance(new, (relax.Var, relax.Tuple, GenericConst))
        return new if kept else self.bb.emit(new)

    def narrowed(self, call: relax.Call, rows: Rows, needs: list[Need]) -> relax.Expr:
        """Return the call for ``rows`` of its result."""
        if is_call_to(call, "relax.reshape"):
            source = self.env[needs[0][0]]
            return relax.op.reshape(source, rows.narrowed(static_shape(call)))
        new = iter([self.cut(substitute(x, self.env), need) for x, need in needs])

        def with_new(arg: relax.Expr) -> relax.Expr:
            if isinstance(arg, relax.Tuple):
                return relax.Tuple([with_new(field) for field in arg.fields])
            return next(new) if isinstance(arg.ty, relax.TensorType) else arg

        args = [with_new(arg) for arg in call.args]
        return relax.Call(call.op, args, call.attrs, call.ty_args, call.span)

    def cut(self, x: relax.Expr, need: Rows | None) -> relax.Expr:
        """Return the rows ``need`` of a value, which may have been narrowed to a few more."""
        held = self.held.get(x) if isinstance(x, relax.Var) else None
        if need is None or held == need:
            return x
        if held is not None:
            first = need.begin - held.begin
            need = Rows(need.outer, held.count, need.inner, first, first + need.count)
        shape = static_shape(x)
        if isinstance(x, GenericConst):
            whole = x.value.numpy().reshape(need.outer, need.extent, need.inner)
            part = np.ascontiguousarray(whole[:, need.begin : need.end])
            return relax.const(part.reshape(need.narrowed(shape)), str(x.ty.dtype))
        # In one form, whatever the shape of ``x``: equal cuts of one value are found again.
        view = self.bb.emit(relax.op.reshape(x, (need.outer, need.extent, need.inner)))
        part = self.bb.emit(relax.op.strided_slice(view, [1], [need.begin], [need.end]))
        return self.bb.emit(relax.op.reshape(part, need.narrowed(shape)))

"""Rebuild the function ``main`` binding by binding: the loop that most graph passes share.

Our modules hold one Relax function in one dataflow block. A pass gives a rule that sees each bound
value, with its operands already rewritten, and returns the value to bind in its place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeGuard

import tvm
from tvm import relax
from tvm.ir import GenericConst

Rule = Callable[[relax.BlockBuilder, relax.Expr], relax.Expr]
"""(builder, value) -> value; returns its argument to leave it alone, may emit further bindings."""


def bindings_of(func: relax.Function) -> Iterator[relax.VarBinding]:
    """Yield the bindings of a function whose body is one block."""
    for block in func.body.blocks:
        yield from block.bindings


def returned_fields(func: relax.Function) -> list[relax.Expr]:
    """Return what a function returns as a flat list, looking through the variable of a tuple."""
    result = func.body.body
    values = {b.var: b.value for b in bindings_of(func)}
    bound = values.get(result, result)
    return list(bound.fields) if isinstance(bound, relax.Tuple) else [result]


def position_of_loss(main: relax.Function) -> int:
    """Return the place of the binding that computes the first output; the backward pass follows."""
    loss = returned_fields(main)[0]
    return next(i for i, b in enumerate(bindings_of(main)) if b.var.same_as(loss))


def variables_read(expr: relax.Expr) -> list[relax.Var]:
    """Return the variables of ``expr`` in the order of its operands, each once."""
    found: list[relax.Var] = []
    relax.analysis.post_order_visit(
        expr, lambda e: found.append(e) if isinstance(e, relax.Var) else None
    )
    return found


def is_call_to(expr: relax.Expr | None, *names: str) -> TypeGuard[relax.Call]:
    """Tell whether ``expr`` applies one of the operators ``names``."""
    return isinstance(expr, relax.Call) and getattr(expr.op, "name", None) in names


def static_shape(expr: relax.Expr) -> tuple[int, ...]:
    """Return the shape of a tensor whose extents are all known."""
    return tuple(int(d) for d in expr.ty.shape)


def substitute(expr: relax.Expr, env: Mapping[relax.Var, relax.Expr]) -> relax.Expr:
    """Return ``expr`` with variables replaced; unchanged parts are shared."""
    if isinstance(expr, relax.Var):
        return env.get(expr, expr)
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([substitute(f, env) for f in expr.fields])
    if isinstance(expr, relax.TupleGetItem):
        source = substitute(expr.tuple_value, env)
        if isinstance(source, relax.Tuple):
            return source.fields[expr.index]
        return relax.TupleGetItem(source, expr.index)
    if isinstance(expr, relax.Call):
        args = [substitute(a, env) for a in expr.args]
        return relax.Call(expr.op, args, expr.attrs, expr.ty_args, expr.span)
    return expr


def rewrite_main(
    mod: tvm.IRModule,
    rule: Rule,
    *,
    rename: Mapping[relax.Var, relax.Expr] | None = None,
    extra_outputs: Iterable[relax.Expr] = (),
) -> tvm.IRModule:
    """Return ``mod`` with every bound value of ``main`` passed through ``rule``.

    Args:
        mod: left as it is.
        rule: see ``Rule``.
        rename: parameters to replace, usually by parameters of another shape.
        extra_outputs: values emitted by ``rule`` to return beside the output, as one flat tuple;
            read after the last binding.
    """
    func = mod["main"]
    env: dict[relax.Var, relax.Expr] = {}
    params = []
    for p in func.params:
        new = (rename or {}).get(p, relax.Var(p.name, p.ty))
        env[p] = new
        params.append(new)
    bb = relax.BlockBuilder()
    with bb.function("main", params, attrs=dict(func.attrs or {})):
        with bb.dataflow():
            for binding in bindings_of(func):
                value = rule(bb, bb.normalize(substitute(binding.value, env)))
                bound = isinstance(value, (relax.Var, relax.Tuple, GenericConst))
                env[binding.var] = value if bound else bb.emit(value)
            result = substitute(func.body.body, env)
            extra = list(extra_outputs)
            if extra:
                first = list(result.fields) if isinstance(result, relax.Tuple) else [result]
                result = relax.Tuple([*first, *extra])
            output = bb.emit_output(result)
        bb.emit_func_output(output)
    out = mod.clone()
    out["main"] = bb.get()["main"]
    return out

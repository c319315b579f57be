"""Read off what is kept anyway what a few elementwise operators make of it.

Before:  c = clip(x + 3, 0, 6);  y = x * c; …forward…;  x̄ = ȳ * c + where(c > 0, ȳ * x, 0)
After:   c = clip(x + 3, 0, 6);  y = x * c; …forward…;
         c' = clip(x + 3, 0, 6);  x̄ = ȳ * c' + where(c' > 0, ȳ * x, 0)

That is hard_swish as importers write it: its gradient reads both factors, and the second is two
operations away from the first. Where the readers of such a value in the backward pass are
elementwise too, its copy becomes part of their loop, so nothing is kept for it and no time is lost.
Run it after ``DeriveBackward``, before ``PackMasks``, which counts the readers of each tensor.
"""

from collections.abc import Mapping

import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.utils import copy_with_new_vars

from pock_tvm.relay_passes.rewrite import (
    bindings_of,
    is_call_to,
    position_of_loss,
    returned_fields,
    substitute,
    variables_read,
)

LONGEST_CHAIN = 4
"""Operators between a value and what is kept."""

_CHEAP = tuple(
    f"relax.{name}"
    for name in (
        *("add", "subtract", "multiply", "divide", "negative", "abs", "square"),
        *("clip", "nn.relu", "nn.leakyrelu", "maximum", "minimum"),
    )
)
"""A cycle or two per element; transcendental functions would make a loop slower."""

_ELEMENTWISE = (
    *_CHEAP,
    *("relax.where", "relax.greater", "relax.greater_equal", "relax.less", "relax.less_equal"),
)


@tvm.transform.module_pass(opt_level=0, name="RecomputeElementwise")
class RecomputeElementwise:
    """Bind values of the forward pass once more in front of their readers in the backward pass."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``, whose first output is the loss."""
        main = copy_with_new_vars(mod["main"])
        chains = _chains(main)
        if not chains:
            return mod
        out = mod.clone()
        out["main"] = _repeat(main, chains)
        return out


def _chains(main: relax.Function) -> dict[relax.Var, list[relax.VarBinding]]:
    """Return how to make a value again, by the value, of those that are worth it."""
    bindings = list(bindings_of(main))
    start = position_of_loss(main) + 1
    forward = {b.var: b for b in bindings[:start]}
    readers: dict[relax.Var, list[relax.Expr]] = {}
    for binding in bindings[start:]:
        for var in dict.fromkeys(variables_read(binding.value)):
            readers.setdefault(var, []).append(binding.value)
    returned = returned_fields(main)
    chains: dict[relax.Var, list[relax.VarBinding]] = {}
    for var, users in readers.items():
        if var not in forward or any(var.same_as(r) for r in returned):
            continue
        if all(is_call_to(user, *_ELEMENTWISE) for user in users):
            # What another chain makes again is not kept: it cannot be the end of this one.
            chain = _chain(var, forward, readers.keys() - chains.keys())
            if chain:
                chains[var] = chain
    return chains


def _chain(
    var: relax.Var,
    forward: Mapping[relax.Var, relax.VarBinding],
    kept: set[relax.Var],
) -> list[relax.VarBinding]:
    """Return the bindings from a kept tensor to ``var``, in order; none where there is no way."""
    chain: list[relax.VarBinding] = []
    at = var
    while at.same_as(var) or at not in kept:
        binding = forward.get(at)
        if binding is None or len(chain) == LONGEST_CHAIN or not is_call_to(binding.value, *_CHEAP):
            return []
        chain.insert(0, binding)
        tensors = [a for a in binding.value.args if isinstance(a, relax.Var)]
        others = [a for a in binding.value.args if isinstance(a, GenericConst)]
        if len(tensors) != 1 or any(len(c.ty.shape) for c in others):
            return []
        (at,) = tensors
    return chain


def _repeat(
    main: relax.Function, chains: Mapping[relax.Var, list[relax.VarBinding]]
) -> relax.Function:
    """Bind each chain once more in front of its first reader behind the loss."""
    start = position_of_loss(main) + 1
    again: dict[relax.Var, relax.Expr] = {}
    bb = relax.BlockBuilder()

    def emit_chains(value: relax.Expr) -> None:
        for var in dict.fromkeys(variables_read(value)):
            if var not in chains or var in again:
                continue
            names: dict[relax.Var, relax.Expr] = {}
            for part in chains[var]:
                names[part.var] = bb.emit(substitute(part.value, names))
            again[var] = names[var]

    with bb.function("main", list(main.params), attrs=dict(main.attrs or {})):
        with bb.dataflow():
            for at, binding in enumerate(bindings_of(main)):
                if at < start:
                    bb.emit_normalized(binding)
                    continue
                emit_chains(binding.value)
                value = bb.normalize(substitute(binding.value, again))
                bb.emit_normalized(relax.VarBinding(binding.var, value))
        bb.emit_func_output(main.body.body)
    return bb.get()["main"]

"""Which bindings lie between the trainable parameters and the loss.

Reachable forward from a trainable parameter and backward from the loss: nothing else is ever
differentiated, so nothing else needs a rule.
"""

from collections.abc import Iterable, Mapping, Sequence

import tvm
from tvm import relax

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.vjp.registry import NON_DIFFERENTIABLE, REWRITTEN, operands, vjp_rule

Slot = tuple[relax.Var, int]
"""A tensor of the graph: a variable and, if that holds a tuple, the field (else 0)."""

Edge = tuple[int | None, Slot]
"""A field of a binding's value, or None for all of them, and a slot that it is made from."""

Step = tuple[relax.Binding, list[Edge]]
"""A binding on the way, and those of its edges that lead to a trainable parameter."""


def is_float(ty: relax.Type) -> bool:
    """Tell whether a tensor, or some field of a tuple, holds floating-point numbers."""
    fields = ty.fields if isinstance(ty, relax.TupleType) else [ty]
    return any(isinstance(f, relax.TensorType) and "float" in str(f.dtype) for f in fields)


def slot_of(part: relax.Expr) -> Slot | None:
    """Return the slot that an operand names, None for a constant."""
    if isinstance(part, relax.Var):
        return part, 0
    if isinstance(part, relax.TupleGetItem) and isinstance(part.tuple_value, relax.Var):
        return part.tuple_value, int(part.index)
    return None


def _edges(binding: relax.Binding) -> list[Edge]:
    """Return what the value of a binding is made from, constants left out."""
    value = binding.value
    parts: Iterable[tuple[int | None, relax.Expr]]
    if isinstance(value, relax.Call):
        parts = [(None, operand) for operand in operands(value)]
    elif isinstance(value, relax.Tuple):
        parts = enumerate(value.fields)
    elif isinstance(value, relax.Var) and isinstance(value.ty, relax.TupleType):
        parts = [(i, relax.TupleGetItem(value, i)) for i in range(len(value.ty.fields))]
    else:
        parts = [(0, value)]
    return [(field, slot) for field, part in parts if (slot := slot_of(part)) is not None]


def paths(
    bindings: Sequence[relax.Binding], trainable: Sequence[relax.Var], loss: relax.Expr
) -> list[Step]:
    """Return the bindings between a trainable parameter and the loss, with the edges to walk."""
    varying = set(trainable)
    edges_of = {}
    for binding in bindings:
        edges = [edge for edge in _edges(binding) if edge[1][0] in varying]
        if (
            edges
            and is_float(binding.var.ty)
            and called_name(binding.value) not in NON_DIFFERENTIABLE
        ):
            varying.add(binding.var)
            edges_of[binding.var] = edges
    needed: dict[relax.Var, set[int]] = {loss: {0}}
    walked = []
    for binding in reversed(bindings):
        fields = needed.get(binding.var, set())
        edges = [
            edge
            for edge in edges_of.get(binding.var, [])
            if edge[0] in fields or (edge[0] is None and fields)
        ]
        for _, (var, field) in edges:
            needed.setdefault(var, set()).add(field)
        if edges:
            walked.append((binding, edges))
    return walked[::-1]


def called_name(value: relax.Expr) -> str:
    """Return what a call calls, and nothing for other values."""
    if not isinstance(value, relax.Call):
        return ""
    if not isinstance(value.op, tvm.ir.Op):
        return str(getattr(value.op, "name", value.op))
    called = value.args[0] if value.args else None
    inner = f"({called.name})" if isinstance(called, relax.GlobalVar) else ""
    return f"{value.op.name}{inner}"


def require_rules(
    walked: list[Step],
    main: relax.Function,
    value_of: Mapping[relax.Var, relax.Expr],
) -> None:
    """Raise one error that lists all operators that lack a rule, and where each of them stands."""
    missing: dict[str, list[str]] = {}
    for binding, _ in walked:
        name = called_name(binding.value)
        if name and vjp_rule(name) is None:
            place = _module(binding.value) or _place(binding, main, value_of)
            missing.setdefault(name, []).append(place)
    if missing:
        listed = "; ".join(f"{name} ({', '.join(places)})" for name, places in missing.items())
        raise UnsupportedModelError(
            f"no derivative is known for {listed}: freeze the parameters that come before, "
            "or add a rule in relay_passes/vjp/"
        )


def operators_without_rule(main: relax.Function, trainable: Sequence[relax.Var]) -> list[str]:
    """Return the operators between parameters and any result that lack a rule, by name.

    For graphs as they are imported, of which parts are missing, so that it is not known what leads
    to the loss.
    """
    varying = set(trainable)
    missing: dict[str, None] = {}
    for block in main.body.blocks:
        for binding in block.bindings:
            name = called_name(binding.value)
            reached = any(slot[0] in varying for _, slot in _edges(binding))
            if not reached or not is_float(binding.var.ty) or name in NON_DIFFERENTIABLE:
                continue
            varying.add(binding.var)
            if name and vjp_rule(name) is None and name not in REWRITTEN:
                missing[name] = None
    return list(missing)


def _module(value: relax.Expr) -> str | None:
    """Return the module that the importer noted in the span of a call."""
    return f"in {value.span.source_name.name}" if value.span else None


def _place(
    binding: relax.Binding, main: relax.Function, value_of: Mapping[relax.Var, relax.Expr]
) -> str:
    """Name a binding, and the parameter that is the fewest steps before it."""
    params, seen, ring = set(main.params), {binding.var}, [binding.var]
    while ring:
        found = [var.name for var in ring if var in params]
        if found:
            return f"{binding.var.name}, after {found[0]}"
        before = [
            var
            for after in ring
            if after in value_of
            for var in relax.analysis.free_vars(value_of[after])
        ]
        ring = [var for var in dict.fromkeys(before) if var not in seen]
        seen.update(ring)
    return str(binding.var.name)

"""Keep a mask of one bit per element where the backward pass wants no more of an activation.

Before:  y = relu(x); …forward…;  x̄ = where(y > 0, ȳ, 0)
After:   y = relu(x); words = pack_bits(y > 0); …forward…;  x̄ = where(unpack_bits(words), ȳ, 0)

A condition of the backward pass that depends on the forward pass alone moves there. That is done
where it lets go of a tensor many times its size: of a ReLU whose output no weight gradient reads
(the next layer is frozen, or learns its bias only), 31 of 32 bits. Where the tensor is kept for
another reader the comparison costs nothing and stays. Run it when all gradients and updates stand.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import tvm
from tvm import relax
from tvm.relax.utils import copy_with_new_vars

from pock_tvm.relay_passes.operators.bits import pack_bits, unpack_bits, words_shape
from pock_tvm.relay_passes.rewrite import (
    bindings_of,
    is_call_to,
    position_of_loss,
    returned_fields,
    static_shape,
    variables_read,
)

LEAST_GAIN = 4
"""How many times its own size the words have to free."""


@dataclass(frozen=True)
class _Condition:
    """A bool of the backward pass that the forward pass could compute."""

    top: relax.Var
    bindings: tuple[relax.VarBinding, ...]
    """What computes it, in order; the last one binds ``top``."""
    sources: tuple[relax.Var, ...]
    """The values of the forward pass that they read."""

    @property
    def words_bytes(self) -> int:
        return 4 * prod(words_shape(static_shape(self.top)))


@tvm.transform.module_pass(opt_level=0, name="PackMasks")
class PackMasks:
    """Move conditions of the backward pass to the forward pass, packed in bits."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``, whose first output is the loss."""
        main = copy_with_new_vars(mod["main"])
        chosen = _worthwhile(main, _conditions(main))
        if not chosen:
            return mod
        out = mod.clone()
        out["main"] = _pack(main, chosen)
        return out


def _is_mask(var: relax.Var) -> bool:
    ty = var.ty
    return isinstance(ty, relax.TensorType) and str(ty.dtype) == "bool" and len(ty.shape) > 0


def _conditions(main: relax.Function) -> list[_Condition]:
    """Return the conditions after the loss that depend on nothing after it."""
    bindings = list(bindings_of(main))
    last = position_of_loss(main)
    forward = {b.var for b in bindings[: last + 1]} | set(main.params)
    masks: dict[relax.Var, relax.VarBinding] = {}
    selects = set[relax.Var]()
    for binding in bindings[last + 1 :]:
        reads = variables_read(binding.value)
        if _is_mask(binding.var) and all(v in forward or v in masks for v in reads):
            masks[binding.var] = binding
        else:
            selects.update(v for v in reads if v in masks)

    return [_condition(top, masks) for top in masks if top in selects]


def _condition(top: relax.Var, masks: Mapping[relax.Var, relax.VarBinding]) -> _Condition:
    parts: dict[relax.Var, relax.VarBinding] = {}
    sources: dict[relax.Var, None] = {}

    def gather(var: relax.Var) -> None:
        for read in variables_read(masks[var].value):
            if read in masks:
                gather(read)
            else:
                sources[read] = None
        parts[var] = masks[var]

    gather(top)
    return _Condition(top, tuple(parts.values()), tuple(sources))


def _worthwhile(main: relax.Function, conditions: list[_Condition]) -> list[_Condition]:
    """Return the conditions whose words free tensors of many times their size."""
    bindings = list(bindings_of(main))
    last = position_of_loss(main)
    root = {p: p for p in main.params}
    for binding in bindings:
        is_view = is_call_to(binding.value, "relax.reshape")
        root[binding.var] = root[binding.value.args[0]] if is_view else binding.var
    readers: dict[relax.Var, set[relax.Var]] = defaultdict(set)
    for binding in bindings[last + 1 :]:
        for read in variables_read(binding.value):
            readers[root[read]].add(binding.var)
    kept = {*main.params, *(root.get(v, v) for v in returned_fields(main))}

    while True:
        packed = {b.var for c in conditions for b in c.bindings}
        freed = {v for v, users in readers.items() if users <= packed and v not in kept}

        def gain(condition: _Condition, freed: set[relax.Var] = freed) -> int:
            roots = {root[v] for v in condition.sources} & freed
            return sum(_bytes(v) for v in roots)

        rest = [c for c in conditions if gain(c) >= LEAST_GAIN * c.words_bytes]
        if len(rest) == len(conditions):
            return rest
        conditions = rest


def _bytes(var: relax.Var) -> int:
    return prod(static_shape(var)) * max(1, tvm.DataType(str(var.ty.dtype)).bits // 8)


def _pack(main: relax.Function, conditions: list[_Condition]) -> relax.Function:
    """Bind each condition right behind its last source, and its unpacked words in its place."""
    bindings = list(bindings_of(main))
    position = {b.var: i for i, b in enumerate(bindings)}
    behind: dict[int, list[_Condition]] = defaultdict(list)
    for condition in conditions:
        at = max(position.get(v, -1) for v in condition.sources)
        behind[at].append(condition)
    words: dict[relax.Var, relax.Var] = {}
    moved: dict[relax.Var, relax.Var] = {}
    bb = relax.BlockBuilder()

    def emit_words(condition: _Condition) -> None:
        for part in condition.bindings:
            if part.var not in moved:
                moved[part.var] = bb.emit(_renamed(part.value, moved))
        words[condition.top] = bb.emit(pack_bits(moved[condition.top]))

    unpacked = {c.top for c in conditions}
    with bb.function("main", list(main.params), attrs=dict(main.attrs or {})):
        with bb.dataflow():
            for early in behind[-1]:
                emit_words(early)
            for at, binding in enumerate(bindings):
                if binding.var in unpacked:
                    mask = unpack_bits(words[binding.var], static_shape(binding.var))
                    bb.emit_normalized(relax.VarBinding(binding.var, bb.normalize(mask)))
                else:
                    bb.emit_normalized(binding)
                for condition in behind[at]:
                    emit_words(condition)
        bb.emit_func_output(main.body.body)
    mod = tvm.IRModule({"main": bb.get()["main"]})
    return relax.transform.DeadCodeElimination()(mod)["main"]


def _renamed(value: relax.Call, names: dict[relax.Var, relax.Var]) -> relax.Call:
    return relax.Call(value.op, [names.get(a, a) for a in value.args], value.attrs, value.ty_args)

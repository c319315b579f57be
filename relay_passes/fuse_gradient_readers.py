"""Make one kernel of a weight gradient and of everything that reads it.

Before:  G = conv2d_weight_grad(x, ȳ);  s̄ = sum(G · w);  w' = w - η · (G · s)
After:   s̄, w' = fused(x, ȳ, w, η, s)          # G lives in registers, a tile at a time

``FuseOps`` joins a gradient with one reader. Where ``FoldScaleIntoConv2d`` has folded a scale that
learns into a weight there are two, and G would be written, and read twice. What the schedules can
do in one pass over the tiles of G is joined here: elementwise operators of G's shape, and sums over
all axes but the last; only sums and updated tensors may be read by others. Run it between
``AnnotateTIROpPattern`` and ``FuseOps``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import ir, relax, tirx
from tvm.ir import GenericConst

from pock_tvm.relay_passes.rewrite import (
    bindings_of,
    is_call_to,
    returned_fields,
    static_shape,
    substitute,
)

_INJECTIVE = 2  # relax.OpPatternKind: elementwise, broadcast, injective
_GRADIENT = "conv2d_weight_grad"


@tvm.transform.module_pass(opt_level=0, name="FuseGradientReaders")
class FuseGradientReaders:
    """Group each gradient of several readers with them, for ``FuseTIR``."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        main = mod["main"]
        groups = _groups(mod, main)
        if not groups:
            return mod
        bb = relax.BlockBuilder()
        with bb.function("main", list(main.params), attrs=dict(main.attrs or {})):
            with bb.dataflow():
                _emit_all(bb, main, groups)
            bb.emit_func_output(main.body.body)
        out = mod.clone()
        for var, func in bb.get().functions.items():
            if var.name_hint == "main":
                out["main"] = func
            else:
                out.update_func(var, func)
        return out


@dataclass(frozen=True)
class _Group:
    """A gradient, its readers, and what is made for those alone, in order."""

    gradient: relax.Var
    bindings: tuple[relax.VarBinding, ...]
    results: tuple[relax.Var, ...]
    """What is read outside."""

    def operands(self) -> list[relax.Var]:
        """Return the variables from outside, in order of their first use."""
        return _operands_of(self.bindings)

    def constants(self) -> list[relax.Expr]:
        """Return the constants that kernels read: a primitive function may hold none."""
        calls = [b.value for b in self.bindings if is_call_to(b.value, "relax.call_tir")]
        read = [x for call in calls for x in call.args[1].fields]
        return list(dict.fromkeys(x for x in read if isinstance(x, GenericConst)))


def _groups(mod: tvm.IRModule, main: relax.Function) -> list[_Group]:
    """Return the groups; where a gradient is added up from parts, its last part is in one."""
    finder = _Finder(mod, main)
    found: list[_Group] = []
    taken: set[relax.Var] = set()
    for binding in reversed(finder.bindings):
        if not _kernel_name(binding.value).startswith(_GRADIENT):
            continue
        group = finder.group_of(binding)
        if group and taken.isdisjoint(b.var for b in group.bindings):
            found.append(group)
            taken |= {b.var for b in group.bindings}
    return found


class _Finder:
    """Follows values of ``main`` to those who read them."""

    def __init__(self, mod: tvm.IRModule, main: relax.Function) -> None:
        self.mod = mod
        self.bindings = list(bindings_of(main))
        self.places = {b.var: place for place, b in enumerate(self.bindings)}
        self.readers: dict[relax.Var, list[relax.VarBinding]] = {}
        for binding in self.bindings:
            for var in relax.analysis.free_vars(binding.value):
                self.readers.setdefault(var, []).append(binding)
        self.returned = {v for v in returned_fields(main) if isinstance(v, relax.Var)}

    def group_of(self, gradient: relax.VarBinding) -> _Group | None:
        """Return a gradient with all its readers; None where they do not fit in one kernel."""
        shape = static_shape(gradient.var)
        if shape[-1] == 1 or not _has_one_group_or_one_channel_each(gradient.value, shape):
            return None
        own, sums = {gradient.var}, set[relax.Var]()
        following = [gradient.var]
        while following:
            for reader in self.readers.get(following.pop(), ()):
                if reader.var in own:
                    continue
                if _is_elementwise(self.mod, reader, shape):
                    following.append(reader.var)
                elif _is_sum(self.mod, reader, shape):
                    sums.add(reader.var)
                else:
                    continue
                own.add(reader.var)
        if not sums:
            return None
        self._add_terms(own, shape)
        results = self._results(own, sums)
        if results is None or len(results) == len(sums):
            return None
        members = tuple(self.bindings[place] for place in sorted(self.places[v] for v in own))
        if self._waits_for(_operands_of(members), own):
            return None
        return _Group(gradient.var, members, results)

    def _add_terms(self, own: set[relax.Var], shape: tuple[int, ...]) -> None:
        """Add elementwise operators that only the group reads, as the decay of a weight."""
        following = _operands_of([self.bindings[self.places[v]] for v in own])
        while following:
            var = following.pop()
            if var in own or var not in self.places:
                continue
            binding = self.bindings[self.places[var]]
            mine = all(reader.var in own for reader in self.readers[var])
            if mine and _is_elementwise(self.mod, binding, shape):
                own.add(var)
                following.extend(relax.analysis.free_vars(binding.value))

    def _results(self, own: set[relax.Var], sums: set[relax.Var]) -> tuple[relax.Var, ...] | None:
        """Return what is read outside; None where that is more than sums and updates."""
        found = []
        for var in sorted(own, key=self.places.__getitem__):
            inside = any(reader.var in own for reader in self.readers.get(var, ()))
            if var in self.returned and inside:
                return None  # kept for debugging: what is read again takes more than one pass
            if var in self.returned or (var in sums and self._outside(var, own)):
                found.append(var)
            elif self._outside(var, own):
                return None
        return tuple(found)

    def _outside(self, var: relax.Var, own: set[relax.Var]) -> list[relax.Var]:
        """Return who reads a value but the group and the tuple that ``main`` returns."""
        readers = self.readers.get(var, ())
        return [r.var for r in readers if r.var not in own and not isinstance(r.value, relax.Tuple)]

    def _waits_for(self, operands: Sequence[relax.Var], own: set[relax.Var]) -> bool:
        """Tell whether one of the operands is made from a result."""
        following = [reader for var in own for reader in self._outside(var, own)]
        seen: set[relax.Var] = set()
        while following:
            var = following.pop()
            if var not in seen:
                seen.add(var)
                following += [reader.var for reader in self.readers.get(var, ())]
        return not seen.isdisjoint(operands)


def _operands_of(bindings: Sequence[relax.VarBinding]) -> list[relax.Var]:
    """Return the variables that bindings read and do not bind, in order of their first use."""
    own = {b.var for b in bindings}
    read = [v for b in bindings for v in relax.analysis.free_vars(b.value)]
    return [v for v in dict.fromkeys(read) if v not in own]


def _emit_all(bb: relax.BlockBuilder, main: relax.Function, groups: Sequence[_Group]) -> None:
    """Emit ``main`` in its order, but for what has to wait for a group, which waits for operands.

    A group takes the place of its gradient.
    """
    places = {g.gradient: g for g in groups}
    members = {b.var for g in groups for b in g.bindings}
    missing = {b.var for b in bindings_of(main)}
    waiting: list[relax.VarBinding | _Group] = []
    for binding in bindings_of(main):
        if binding.var in places:
            waiting.append(places[binding.var])
        elif binding.var not in members:
            waiting.append(binding)
        while True:
            item = next((x for x in waiting if missing.isdisjoint(_operands(x))), None)
            if item is None:
                break
            waiting.remove(item)
            if isinstance(item, _Group):
                _emit(bb, item)
                missing -= {b.var for b in item.bindings}
            else:
                bb.emit_normalized(item)
                missing.discard(item.var)


def _operands(item: "relax.VarBinding | _Group") -> list[relax.Var]:
    if isinstance(item, _Group):
        return item.operands()
    return list(relax.analysis.free_vars(item.value))


def _emit(bb: relax.BlockBuilder, group: _Group) -> None:
    """Call a primitive function of the group's bindings, and bind its results as they were."""
    operands: list[relax.Expr] = [*group.operands(), *group.constants()]
    inner: dict[relax.Expr, relax.Expr] = {
        x: relax.Var(x.name if isinstance(x, relax.Var) else f"constant{k}", x.ty)
        for k, x in enumerate(operands)
    }
    parts = relax.BlockBuilder()
    with parts.function("group", list(inner.values()), attrs={"Primitive": 1}, private=True):
        with parts.dataflow():
            for binding in group.bindings:
                inner[binding.var] = parts.emit(_with(binding.value, inner))
            output = parts.emit_output(relax.Tuple([inner[v] for v in group.results]))
        parts.emit_func_output(output)
    name = "fused_" + "_".join(filter(None, (_kernel_name(b.value) for b in group.bindings)))
    called = bb.emit(relax.Call(bb.add_func(parts.get()["group"], name), operands))
    for place, var in enumerate(group.results):
        bb.emit_normalized(relax.VarBinding(var, bb.normalize(relax.TupleGetItem(called, place))))


def _with(value: relax.Expr, inner: Mapping[relax.Expr, relax.Expr]) -> relax.Expr:
    """Return a kernel's call with its operands replaced, constants too."""
    if not is_call_to(value, "relax.call_tir"):
        return substitute(value, inner)
    fields = relax.Tuple([inner[field] for field in value.args[1].fields])
    args = [value.args[0], fields, *value.args[2:]]
    return relax.Call(value.op, args, value.attrs, value.ty_args, value.span)


def _has_one_group_or_one_channel_each(value: relax.Call, shape: tuple[int, ...]) -> bool:
    """Tell whether a schedule can sum over all but the last axis of the convolution's weight."""
    (x, *_) = value.args[1].fields
    channels, (inputs, outputs) = static_shape(x)[-1], shape[-2:]
    return channels == inputs or (inputs == 1 and channels == outputs)


def _is_elementwise(mod: tvm.IRModule, binding: relax.VarBinding, shape: tuple[int, ...]) -> bool:
    """Tell whether each element of what is bound comes from the same elements of tensors."""
    value, ty = binding.value, binding.var.ty
    types = ty.fields if isinstance(ty, relax.TupleType) else [ty]
    if any(tuple(int(d) for d in t.shape) != shape for t in types):
        return False
    if isinstance(value, relax.TupleGetItem):
        return True
    return bool(_kernel_name(value)) and int(_kernel(mod, value).attrs["op_pattern"]) <= _INJECTIVE


def _is_sum(mod: tvm.IRModule, binding: relax.VarBinding, shape: tuple[int, ...]) -> bool:
    """Tell whether an operator adds up all that have one index along the last axis."""
    if not _kernel_name(binding.value) or static_shape(binding.var) != shape[-1:]:
        return False
    stores: list[tirx.BufferStore] = []
    tvm_ffi.structural_walk(_kernel(mod, binding.value).body, (tirx.BufferStore, stores.append))
    sums = [s for s in stores if isinstance(s.value, tirx.Add)]
    if len(sums) != 1:
        return False
    (store,) = sums
    loads = [x for x in (store.value.a, store.value.b) if isinstance(x, ir.TensorLoad)]
    return (
        len(loads) == 2
        and loads[0].source.same_as(store.buffer)
        and len(loads[1].indices) == len(shape)
        and loads[1].indices[-1].same_as(store.indices[0])
    )


def _kernel(mod: tvm.IRModule, value: relax.Call) -> tirx.PrimFunc:
    return mod[value.args[0]]


def _kernel_name(value: relax.Expr) -> str:
    return str(value.args[0].name_hint) if is_call_to(value, "relax.call_tir") else ""

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
from dataclasses import dataclass, field

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


@dataclass
class _Group:
    """A gradient, its readers, and what is made for those alone, in order."""

    gradient: relax.Var
    bindings: list[relax.VarBinding]
    sums: list[relax.Var] = field(default_factory=list)
    results: list[relax.Var] = field(default_factory=list)
    """What is read outside."""

    def operands(self) -> list[relax.Var]:
        """Return the variables from outside, in order of their first use."""
        own = {b.var for b in self.bindings}
        read = [v for b in self.bindings for v in relax.analysis.free_vars(b.value)]
        return [v for v in dict.fromkeys(read) if v not in own]

    def constants(self) -> list[relax.Expr]:
        """Return the constants that kernels read: a primitive function may hold none."""
        calls = [b.value for b in self.bindings if is_call_to(b.value, "relax.call_tir")]
        read = [x for call in calls for x in call.args[1].fields]
        return list(dict.fromkeys(x for x in read if isinstance(x, GenericConst)))


def _groups(mod: tvm.IRModule, main: relax.Function) -> list[_Group]:
    """Return the groups; where a gradient is added up from parts, its last part is in one."""
    bindings = list(bindings_of(main))
    readers: dict[relax.Var, list[relax.VarBinding]] = {}
    for binding in bindings:
        for var in relax.analysis.free_vars(binding.value):
            readers.setdefault(var, []).append(binding)
    returned = {v for v in returned_fields(main) if isinstance(v, relax.Var)}
    found: list[_Group] = []
    taken: set[relax.Var] = set()
    for place in reversed(range(len(bindings))):
        if not _kernel_name(bindings[place].value).startswith(_GRADIENT):
            continue
        group = _group_of(mod, bindings[place], bindings[place + 1 :])
        _add_terms(mod, group, bindings, readers)
        own = {b.var for b in group.bindings}
        if own.isdisjoint(taken) and _is_legal(group, readers, returned):
            found.append(group)
            taken |= own
    return found


def _group_of(
    mod: tvm.IRModule, gradient: relax.VarBinding, after: Sequence[relax.VarBinding]
) -> _Group:
    """Return the gradient with the elementwise operators and the sums behind it."""
    shape = static_shape(gradient.var)
    group, inside = _Group(gradient.var, [gradient]), {gradient.var}
    if shape[-1] == 1 or not _has_one_group_or_one_channel_each(gradient.value, shape):
        return group
    for binding in after:
        if not any(v in inside for v in relax.analysis.free_vars(binding.value)):
            continue
        if _is_elementwise(mod, binding, shape):
            inside.add(binding.var)
        elif _is_sum(mod, binding, shape):
            group.sums.append(binding.var)
        else:
            continue
        group.bindings.append(binding)
    return group


def _add_terms(
    mod: tvm.IRModule,
    group: _Group,
    bindings: Sequence[relax.VarBinding],
    readers: dict[relax.Var, list[relax.VarBinding]],
) -> None:
    """Add elementwise operators that only the group reads, as the decay of a weight."""
    shape, own = static_shape(group.gradient), {b.var for b in group.bindings}
    for binding in reversed(bindings):
        mine = all(r.var in own for r in readers.get(binding.var, ()))
        if binding.var in readers and mine and _is_elementwise(mod, binding, shape):
            own.add(binding.var)
    group.bindings = [b for b in bindings if b.var in own]


def _is_legal(
    group: _Group,
    readers: dict[relax.Var, list[relax.VarBinding]],
    returned: set[relax.Var],
) -> bool:
    """Tell whether only sums and updates are read outside, and nothing inside waits for those."""
    own = {b.var for b in group.bindings}
    behind: list[relax.Var] = []
    for binding in group.bindings:
        outside = [r for r in readers.get(binding.var, ()) if r.var not in own]
        outside = [r for r in outside if not isinstance(r.value, relax.Tuple)]
        if binding.var in returned and any(r.var in own for r in readers.get(binding.var, ())):
            return False  # kept for debugging: what is written twice takes more than one pass
        if binding.var in returned or (binding.var in group.sums and outside):
            group.results.append(binding.var)
        elif outside:
            return False
        behind += [r.var for r in outside]
    if not group.sums or len(group.results) == len(group.sums):
        return False
    operands, seen = set(group.operands()), set[relax.Var]()
    while behind:
        var = behind.pop()
        if var in operands:
            return False
        if var not in seen:
            seen.add(var)
            behind += [r.var for r in readers.get(var, ())]
    return True


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

"""Append to ``main`` the gradients of its loss.

Before:  main(w, x, labels):  y = matmul(x, w);  loss = cross_entropy(y, labels);  return loss
After:   main(w, x, labels):  y = …;  loss = …;  ȳ = cross_entropy_grad(y, labels, 1);
                              w̄ = matmul(xᵀ, ȳ);  return loss, w̄

Reverse mode, one rule of ``vjp/`` per operator. Only the paths from a trainable parameter to the
loss are walked, so whatever lies before the first trainable tensor, and the weight gradient of a
frozen layer, is never built. ``main`` must be one dataflow block of static shapes that returns the
scalar loss, or a tuple that begins with it. Run it after the canonical passes (channels-last
convolutions, no batch_norm) and before anything is legalized.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.utils import copy_with_new_vars

from pock_tvm.errors import UnknownNameError, UnreachableParameterError
from pock_tvm.relay_passes.vjp import operands, vjp_rule
from pock_tvm.relay_passes.vjp.broadcast import dtype_of, shape_of
from pock_tvm.relay_passes.vjp.paths import (
    Edge,
    Slot,
    Step,
    called_name,
    is_float,
    paths,
    require_rules,
    slot_of,
)


@tvm.transform.module_pass(opt_level=0, name="DeriveBackward")
class DeriveBackward:
    """Return from ``main``, after its own outputs, the gradient of each trainable parameter.

    Args:
        trainable: parameters of ``main``, by name or position; the gradients keep their order.

    Raises:
        UnknownNameError: ``main`` has no such parameter.
        UnsupportedModelError: operators on the way to a trainable parameter have no VJP rule.
        UnreachableParameterError: a trainable parameter does not influence the loss.
    """

    def __init__(self, trainable: Sequence[str | int]) -> None:
        self.trainable = tuple(trainable)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Differentiate ``main``; other functions stay as they are."""
        out = mod.clone()
        main = copy_with_new_vars(mod["main"])
        out["main"] = _differentiate(main, _select(main, self.trainable))
        return out


def _select(main: relax.Function, trainable: Sequence[str | int]) -> list[relax.Var]:
    by_name = {param.name: param for param in main.params}
    unknown = [name for name in trainable if isinstance(name, str) and name not in by_name]
    if unknown:
        raise UnknownNameError(f"no parameters of the model: {', '.join(map(repr, unknown))}")
    return [by_name[n] if isinstance(n, str) else main.params[n] for n in trainable]


def _differentiate(main: relax.Function, trainable: list[relax.Var]) -> relax.Function:
    (block,) = main.body.blocks
    bindings = list(block.bindings)
    value_of = {binding.var: binding.value for binding in bindings}
    result = main.body.body
    returned = value_of.get(result)
    if isinstance(result, relax.Tuple):
        outputs = list(result.fields)
    elif isinstance(returned, relax.Tuple):
        outputs = list(returned.fields)
        bindings = [binding for binding in bindings if not binding.var.same_as(result)]
    else:
        outputs = [result]
    loss = outputs[0]
    if isinstance(loss.ty, relax.TupleType) or shape_of(loss) != () or not is_float(loss.ty):
        raise ValueError(f"the first output must be a scalar loss, not {loss.ty}")

    walked = paths(bindings, trainable, loss)
    require_rules(walked, main, value_of)
    bb = relax.BlockBuilder()
    with bb.function("main", list(main.params), attrs=dict(main.attrs or {})):
        with bb.dataflow():
            for binding in bindings:
                bb.emit_normalized(binding)
            gradients = _Walk(bb, walked, trainable).run(loss)
            returns = [*outputs, *gradients]
            returns = [bb.emit_output(v) if not _leaves_block(v) else v for v in returns]
        bb.emit_func_output(relax.Tuple(returns))
    return bb.get()["main"]


def _leaves_block(value: relax.Expr) -> bool:
    return isinstance(value, relax.Var) and not isinstance(value, relax.DataflowVar)


class _Walk:
    """The walk from the loss back: holds the cotangents met so far."""

    def __init__(
        self,
        bb: relax.BlockBuilder,
        walked: list[Step],
        trainable: list[relax.Var],
    ) -> None:
        self.bb = bb
        self.walked = walked
        self.trainable = trainable
        self.steps = {binding.var: (binding, edges) for binding, edges in walked}
        self.uses = Counter(slot[0] for _, edges in walked for _, slot in edges)
        self.cotangents: dict[Slot, relax.Expr] = {}
        self.depth = dict.fromkeys(trainable, 0)
        """Steps from a parameter to each value that no other trainable parameter has a part in."""
        for binding, edges in walked:
            if len(edges) == 1 and edges[0][1][0] in self.depth:
                self.depth[binding.var] = 1 + self.depth[edges[0][1][0]]

    def run(self, loss: relax.Var) -> list[relax.Expr]:
        """Emit the backward pass and return the gradients of the trainable parameters."""
        self.cotangents[loss, 0] = relax.const(1, dtype_of(loss))
        for binding, _ in reversed(self.walked):
            ready = [binding.var]
            while ready:
                ready += self._visit(ready.pop())
        unreached = [p.name for p in self.trainable if (p, 0) not in self.cotangents]
        if unreached:
            raise UnreachableParameterError(
                f"the loss does not depend on {', '.join(unreached)}: "
                "a trainable parameter needs a differentiable path to it"
            )
        return [self.cotangents[p, 0] for p in self.trainable]

    def _visit(self, var: relax.Var) -> list[relax.Var]:
        """Pass the cotangent of ``var`` on to what it was made from, once.

        Returns:
            Values to visit next, the last one first: those on the way to a single parameter, whose
            gradient need not wait for the layers before it.
        """
        if var not in self.steps:
            return []
        binding, edges = self.steps.pop(var)
        self.uses.subtract(slot[0] for _, slot in edges)
        # A parameter last: its update may then stand right behind, and overwrite what was read.
        parts = list(self._contributions(binding, edges))
        parts.sort(key=lambda part: self.depth.get(part[0][0], math.inf), reverse=True)
        for k, (slot, thunk) in enumerate(parts):
            last = not self.uses[slot[0]] and all(later != slot for later, _ in parts[k + 1 :])
            self._add(slot, thunk(), is_gradient=last and slot[0] in self.trainable)
        sources = dict.fromkeys(source for _, (source, _) in edges if source in self.depth)
        ready = [source for source in sources if self.uses[source] == 0]
        return sorted(ready, key=self.depth.__getitem__, reverse=True)

    def _contributions(
        self, binding: relax.Binding, edges: list[Edge]
    ) -> Iterator[tuple[Slot, Callable[[], relax.Expr]]]:
        """Yield a thunk for each edge that a cotangent flows along."""
        var, value = binding.var, binding.value
        if not isinstance(value, relax.Call):
            for field, slot in edges:
                source = (var, field or 0)
                if source in self.cotangents:
                    yield slot, partial(self.cotangents.__getitem__, source)
            return
        ct = self._cotangent(var)
        if ct is None:
            return
        rule = vjp_rule(called_name(value))
        assert rule is not None, value
        walked = {slot for _, slot in edges}
        for operand, thunk in zip(operands(value), rule(ct, value, var), strict=True):
            target = slot_of(operand)
            if target in walked and thunk is not None:
                yield target, thunk

    def _cotangent(self, var: relax.Var) -> relax.Expr | None:
        """Return the cotangent of a variable; of a tuple a Tuple, with zeros where none arrived."""
        if not isinstance(var.ty, relax.TupleType):
            return self.cotangents.get((var, 0))
        found = [self.cotangents.get((var, i)) for i in range(len(var.ty.fields))]
        if all(ct is None for ct in found):
            return None
        return relax.Tuple(
            [
                self.bb.emit(relax.op.zeros(ty.shape, str(ty.dtype))) if ct is None else ct
                for ct, ty in zip(found, var.ty.fields, strict=True)
            ]
        )

    def _add(self, slot: Slot, value: relax.Expr, *, is_gradient: bool) -> None:
        """Add a contribution to the cotangent of a slot; emit a finished gradient as an output."""
        total = self.cotangents.get(slot)
        if total is not None:
            value = total + self._checked(self._emit(value), slot)
        if is_gradient:
            value = self.bb.emit_output(value, name_hint=f"{slot[0].name}_grad")
        self.cotangents[slot] = self._checked(self._emit(value), slot)

    def _emit(self, value: relax.Expr) -> relax.Expr:
        return value if isinstance(value, relax.Var | GenericConst) else self.bb.emit(value)

    @staticmethod
    def _checked(ct: relax.Expr, slot: Slot) -> relax.Expr:
        """Return ``ct`` if it has the type of its primal; anything else is a bug of a rule."""
        var, field = slot
        primal = var.ty.fields[field] if isinstance(var.ty, relax.TupleType) else var.ty
        same_shape = tuple(map(int, ct.ty.shape)) == tuple(map(int, primal.shape))
        if not same_shape or str(ct.ty.dtype) != str(primal.dtype):
            raise ValueError(f"cotangent of {var.name}: {primal} has become {ct.ty}")
        return ct

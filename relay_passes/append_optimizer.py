"""Append the optimizer: every gradient becomes a new value of the weight that it belongs to.

Before:  main(parameters…, inputs…, labels) -> (loss, running statistics…, gradients…)
After:   main(parameters…, inputs…, labels, slots…, learning_rate)
             -> (loss, running statistics…, new weights…, new slots…)
         updates = ["name of the parameter that output 1 replaces", …]

gradient -> transforms (clipping, …) -> update. An update stands right after its gradient, so that
the gradient dies at once, unless a transform needs all of them: then the updates follow the last
gradient. The outputs after the loss take over the memory of the parameters that ``updates`` names:
``PlanArena`` gives both the same address, and ``ReorderForMemory`` keeps every other reader of the
old value before the update.
"""

from collections.abc import Sequence

import tvm
from tvm import relax

from pock_tvm.optimizers import Optimizer
from pock_tvm.relay_passes.gradient_transforms import GradientTransform
from pock_tvm.relay_passes.operators.optimizer_steps import (
    advance_shared,
    step_scalars,
    update_weight,
)
from pock_tvm.relay_passes.rewrite import bindings_of, static_shape, substitute

LEARNING_RATE = "learning_rate"


def slot_name(parameter: str, slot: str) -> str:
    """Return the name of the optimizer's tensor ``slot`` of ``parameter``."""
    return f"optimizer.{slot}.{parameter}"


@tvm.transform.module_pass(opt_level=0, name="AppendOptimizer")
class AppendOptimizer:
    """Turn the gradients that ``main`` returns last into updates of ``trainable``.

    Args:
        optimizer: what to append.
        trainable: names of the parameters whose gradients ``main`` returns, in order.
        transforms: what happens to the gradients first, in order.
        keep_gradients: also return the gradients as they were derived, after everything else (for
            debugging).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        trainable: Sequence[str],
        *,
        transforms: Sequence[GradientTransform] = (),
        keep_gradients: bool = False,
    ) -> None:
        self.optimizer = optimizer
        self.trainable = tuple(trainable)
        self.transforms = tuple(transforms)
        self.keep_gradients = keep_gradients

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        func = mod["main"]
        params = [relax.Var(p.name, p.ty) for p in func.params]
        by_name = {p.name: p for p in params}
        env: dict[relax.Var, relax.Expr] = dict(zip(func.params, params, strict=True))
        outputs = _outputs(func)
        first_gradient = len(outputs) - len(self.trainable)
        # Two weights may have one gradient: the biases on both sides of a residual addition.
        owners: dict[relax.Var, list[str]] = {}
        for gradient, name in zip(outputs[first_gradient:], self.trainable, strict=True):
            owners.setdefault(gradient, []).append(name)

        weights = [by_name[name] for name in self.trainable]
        updates = _Updates(self.optimizer, weights, self.transforms)
        bb = relax.BlockBuilder()
        attrs = dict(func.attrs or {})
        with bb.function("main", [*params, *updates.parameters], attrs=attrs):
            with bb.dataflow():
                updates.begin(bb)
                for binding in bindings_of(func):
                    if isinstance(binding.value, relax.Tuple):
                        continue  # the old result
                    env[binding.var] = bb.emit(substitute(binding.value, env))
                    for name in owners.get(binding.var, ()):
                        updates.add(bb, name, env[binding.var])
                for var, names in owners.items():
                    for name in names:
                        if name not in updates.seen:  # a gradient that is a parameter or a constant
                            updates.add(bb, name, substitute(var, env))
                results = [substitute(v, env) for v in outputs[:first_gradient]]
                results += [updates.new_weights[n] for n in self.trainable]
                results += list(updates.new_slots.values())
                if self.keep_gradients:
                    results += _each_its_own(
                        bb, [substitute(v, env) for v in outputs[first_gradient:]]
                    )
                result = bb.emit_output(relax.Tuple(results))
            bb.emit_func_output(result)
        statistics = [str(n) for n in (func.attrs or {}).get("running_statistics", [])]
        replaced = [*statistics, *self.trainable, *updates.new_slots]
        out = mod.clone()
        out["main"] = bb.get()["main"].with_attr("updates", replaced)
        return out


class _Updates:
    """Takes gradients as they come, and emits each update as soon as it can stand."""

    def __init__(
        self,
        optimizer: Optimizer,
        weights: Sequence[relax.Var],
        transforms: Sequence[GradientTransform],
    ) -> None:
        self.optimizer = optimizer
        self.weights = {w.name: w for w in weights}
        self.transforms = tuple(transforms)
        self.barrier = next(
            (k for k, t in enumerate(self.transforms) if t.needs_all), len(self.transforms)
        )
        self.rate = relax.Var(LEARNING_RATE, relax.TensorType((), weights[0].ty.dtype))
        types = {
            slot_name(w.name, slot): relax.TensorType(shape, w.ty.dtype)
            for w in weights
            for slot, shape in optimizer.slots_of(static_shape(w)).items()
        }
        types |= {f"optimizer.{n}": relax.TensorType((), "float64") for n in optimizer.shared}
        for transform in self.transforms:
            types |= transform.slot_types(weights)
        self.slots = {name: relax.Var(name, ty) for name, ty in types.items()}
        self.scalars: dict[str, relax.Expr] = {}
        self.waiting: dict[str, relax.Expr] = {}
        self.seen: set[str] = set()
        self.new_weights: dict[str, relax.Expr] = {}
        self.new_slots: dict[str, relax.Expr] = {}

    @property
    def parameters(self) -> list[relax.Var]:
        """What ``main`` takes besides: the state, then the learning rate."""
        return [*self.slots.values(), self.rate]

    def begin(self, bb: relax.BlockBuilder) -> None:
        """Emit what is the same for all weights."""
        old = {name: self.slots[f"optimizer.{name}"] for name in self.optimizer.shared}
        shared = advance_shared(bb, self.optimizer, old)
        self.new_slots |= {f"optimizer.{name}": value for name, value in shared.items()}
        self.scalars = step_scalars(bb, self.optimizer, shared, self.rate)

    def add(self, bb: relax.BlockBuilder, name: str, gradient: relax.Expr) -> None:
        """Take one gradient, and update what can be updated."""
        self.seen.add(name)
        self.waiting |= self._transformed(bb, {name: gradient}, self.transforms[: self.barrier])
        if self.barrier == len(self.transforms):
            self._update(bb, self.waiting)
            self.waiting = {}
        elif len(self.waiting) == len(self.weights):
            ordered = {n: self.waiting[n] for n in self.weights}
            self._update(bb, self._transformed(bb, ordered, self.transforms[self.barrier :]))

    def _transformed(
        self,
        bb: relax.BlockBuilder,
        gradients: dict[str, relax.Expr],
        transforms: Sequence[GradientTransform],
    ) -> dict[str, relax.Expr]:
        for transform in transforms:
            gradients, new_slots = transform.apply(bb, gradients, dict(self.slots))
            self.new_slots |= new_slots
        return gradients

    def _update(self, bb: relax.BlockBuilder, gradients: dict[str, relax.Expr]) -> None:
        for name, gradient in gradients.items():
            w = self.weights[name]
            shape = static_shape(w)
            options = self.optimizer.for_weight(shape)
            slots = {s: self.slots[slot_name(name, s)] for s in options.slots_of(shape)}
            self.new_weights[name], new_slots = update_weight(
                bb, options, w, gradient, self.rate, slots, self.scalars
            )
            self.new_slots |= {slot_name(name, s): value for s, value in new_slots.items()}


def _each_its_own(bb: relax.BlockBuilder, gradients: list[relax.Expr]) -> list[relax.Expr]:
    """Copy a gradient that several weights have, so that each is kept under its own name."""
    kept: list[relax.Expr] = []
    for gradient in gradients:
        shared = any(gradient.same_as(other) for other in kept)
        one = relax.const(1.0, gradient.ty.dtype)
        kept.append(bb.emit(relax.op.multiply(gradient, one)) if shared else gradient)
    return kept


def _outputs(func: relax.Function) -> list[relax.Var]:
    result = func.body.body
    for binding in bindings_of(func):
        if binding.var.same_as(result) and isinstance(binding.value, relax.Tuple):
            return list(binding.value.fields)
    if isinstance(result, relax.Tuple):
        return list(result.fields)
    raise ValueError("main does not return a tuple of loss and gradients")

"""Append the optimizer: every gradient becomes a new value of the weight that it belongs to.

Before:  main(parameters…, inputs…, labels) -> (loss, running statistics…, gradients…)
After:   main(parameters…, inputs…, labels, slots…, learning_rate)
             -> (loss, running statistics…, new weights…, new slots…)
         updates = ["name of the parameter that output 1 replaces", …]

An update stands right after its gradient, so that the gradient dies at once. The outputs after the
loss take over the memory of the parameters that ``updates`` names: ``PlanArena`` gives both the
same address, and ``ReorderForMemory`` keeps every other reader of the old value before the update.

AdamW's bias corrections are two float64 scalars, cᵢ ← βᵢ·cᵢ + (1 - βᵢ) from 0, which is 1 - βᵢᵗ to
the last bit but a few; in float32 1 - β₂ would already be wrong in the fifth digit.
"""

from collections.abc import Callable, Sequence

import tvm
from tvm import relax
from tvm.relax.op import add, multiply, subtract

from pock_tvm.optimizers import AdamW, Optimizer
from pock_tvm.relay_passes.operators.optimizer_steps import adamw_step, momentum_step
from pock_tvm.relay_passes.rewrite import bindings_of, substitute

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
        keep_gradients: also return the gradients, after everything else (for debugging).
    """

    def __init__(
        self, optimizer: Optimizer, trainable: Sequence[str], *, keep_gradients: bool = False
    ) -> None:
        self.optimizer = optimizer
        self.trainable = tuple(trainable)
        self.keep_gradients = keep_gradients

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        func = mod["main"]
        params = [relax.Var(p.name, p.ty) for p in func.params]
        by_name = {p.name: p for p in params}
        env: dict[relax.Var, relax.Expr] = dict(zip(func.params, params, strict=True))
        outputs = _outputs(func)
        first_gradient = len(outputs) - len(self.trainable)
        owner = dict(zip(outputs[first_gradient:], self.trainable, strict=True))

        weights = [by_name[name] for name in self.trainable]
        rate = relax.Var(LEARNING_RATE, relax.TensorType((), weights[0].ty.dtype))
        slots = _slot_parameters(self.optimizer, weights)
        statistics = [str(n) for n in (func.attrs or {}).get("running_statistics", [])]
        new_weights: dict[str, relax.Expr] = {}
        new_slots: dict[str, relax.Expr] = {}

        bb = relax.BlockBuilder()
        attrs = dict(func.attrs or {})
        with bb.function("main", [*params, *slots.values(), rate], attrs=attrs):
            with bb.dataflow():
                step = _step_of(self.optimizer, bb, slots, rate, new_slots)
                for binding in bindings_of(func):
                    if isinstance(binding.value, relax.Tuple):
                        continue  # the old result
                    env[binding.var] = bb.emit(substitute(binding.value, env))
                    if binding.var in owner:
                        name = owner[binding.var]
                        new_weights[name] = step(by_name[name], env[binding.var])
                for var, name in owner.items():
                    if name not in new_weights:  # a gradient that is a parameter or a constant
                        new_weights[name] = step(by_name[name], substitute(var, env))
                results = [substitute(v, env) for v in outputs[:first_gradient]]
                results += [new_weights[n] for n in self.trainable]
                results += list(new_slots.values())
                if self.keep_gradients:
                    results += [substitute(v, env) for v in outputs[first_gradient:]]
                result = bb.emit_output(relax.Tuple(results))
            bb.emit_func_output(result)
        updates = [*statistics, *self.trainable, *new_slots]
        out = mod.clone()
        out["main"] = bb.get()["main"].with_attr("updates", updates)
        return out


def _outputs(func: relax.Function) -> list[relax.Var]:
    result = func.body.body
    for binding in bindings_of(func):
        if binding.var.same_as(result) and isinstance(binding.value, relax.Tuple):
            return list(binding.value.fields)
    if isinstance(result, relax.Tuple):
        return list(result.fields)
    raise ValueError("main does not return a tuple of loss and gradients")


def _slot_parameters(optimizer: Optimizer, weights: Sequence[relax.Var]) -> dict[str, relax.Var]:
    slots = {
        slot_name(w.name, slot): relax.Var(slot_name(w.name, slot), w.ty)
        for w in weights
        for slot in optimizer.slots
    }
    if isinstance(optimizer, AdamW):
        for name in ("optimizer.correction1", "optimizer.correction2"):
            slots[name] = relax.Var(name, relax.TensorType((), "float64"))
    return slots


def _step_of(
    optimizer: Optimizer,
    bb: relax.BlockBuilder,
    slots: dict[str, relax.Var],
    rate: relax.Var,
    new_slots: dict[str, relax.Expr],
) -> Callable[[relax.Var, relax.Expr], relax.Expr]:
    """Return ``(weight, gradient) -> new weight``, which records the new slots as it goes."""
    if isinstance(optimizer, AdamW):
        corrections = _advance_corrections(optimizer, bb, slots, new_slots)

        def adamw(w: relax.Var, g: relax.Expr) -> relax.Expr:
            names = [slot_name(w.name, slot) for slot in optimizer.slots]
            m, v = (slots[n] for n in names)
            call = adamw_step(w, m, v, g, rate, corrections, optimizer)
            return _unpack(bb, call, names, new_slots)

        return adamw
    if optimizer.momentum:

        def momentum(w: relax.Var, g: relax.Expr) -> relax.Expr:
            name = slot_name(w.name, "momentum")
            call = momentum_step(w, slots[name], g, rate, optimizer)
            return _unpack(bb, call, [name], new_slots)

        return momentum

    def plain(w: relax.Var, g: relax.Expr) -> relax.Expr:
        if optimizer.weight_decay:
            g = add(g, multiply(w, relax.const(optimizer.weight_decay, w.ty.dtype)))
        return bb.emit(subtract(w, multiply(rate, g)))

    return plain


def _advance_corrections(
    optimizer: AdamW,
    bb: relax.BlockBuilder,
    slots: dict[str, relax.Var],
    new_slots: dict[str, relax.Expr],
) -> tuple[relax.Expr, relax.Expr]:
    for index, beta in ((1, optimizer.beta1), (2, optimizer.beta2)):
        name = f"optimizer.correction{index}"
        grown = multiply(slots[name], relax.const(beta, "float64"))
        new_slots[name] = bb.emit(add(grown, relax.const(1 - beta, "float64")))
    return new_slots["optimizer.correction1"], new_slots["optimizer.correction2"]


def _unpack(
    bb: relax.BlockBuilder,
    call: relax.Call,
    names: Sequence[str],
    new_slots: dict[str, relax.Expr],
) -> relax.Expr:
    results = bb.emit(call)
    for i, name in enumerate(names):
        new_slots[name] = bb.emit(relax.TupleGetItem(results, i + 1))
    return bb.emit(relax.TupleGetItem(results, 0))

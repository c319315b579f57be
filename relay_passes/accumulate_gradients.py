"""Add up gradients over several micro-batches before the optimizer sees them.

Before:  main(…) -> (loss, running statistics…, gradients…)
After:   main(…, accumulators…, n) -> (loss, running statistics…, a + g, …, L + loss, n + 1)
             updates = [running statistics…, accumulators…, n]                       update=False
         main(…, accumulators…, n) -> ((L + loss) / (n + 1), running statistics…, 0,
             (a + g) / (n + 1), …)   running_statistics = [running statistics…, n]   update=True

The first form is the entry point ``accumulate``; the second becomes a training step, which divides
by the number of micro-batches there were. n counts those that wait for an update, and says whether
an accumulator a holds anything: where n is 0 it is read as 0, so nothing has to be cleared. All of
it is state, so that a checkpoint between two micro-batches loses none.

Run it after ``DeriveBackward`` and before ``AppendOptimizer``, which clips and applies the mean.
"""

from collections.abc import Sequence

import tvm
from tvm import relax
from tvm.relax.op import add, astype, divide, greater, where

from pock_tvm.relay_passes.rewrite import bindings_of, returned_fields, substitute

ACCUMULATED_LOSS = "accumulation.loss"
COUNT = "accumulation.count"


def accumulator_name(parameter: str) -> str:
    """Return the name of the tensor in which the gradients of ``parameter`` add up."""
    return f"accumulator.{parameter}"


@tvm.transform.module_pass(opt_level=0, name="AccumulateGradients")
class AccumulateGradients:
    """Add the gradients that ``main`` returns last to accumulators.

    Args:
        trainable: names of the parameters whose gradients ``main`` returns, in order.
        update: return the means, for an optimizer, instead of the new sums.
    """

    def __init__(self, trainable: Sequence[str], *, update: bool) -> None:
        self.trainable = tuple(trainable)
        self.update = update

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        func = mod["main"]
        loss, *rest = returned_fields(func)
        split = len(rest) - len(self.trainable)
        statistics, gradients = rest[:split], rest[split:]
        params = [relax.Var(p.name, p.ty) for p in func.params]
        env: dict[relax.Var, relax.Expr] = dict(zip(func.params, params, strict=True))
        named = [*zip(map(accumulator_name, self.trainable), gradients, strict=True)]
        named.append((ACCUMULATED_LOSS, loss))
        held = {name: relax.Var(name, value.ty) for name, value in named}
        count = relax.Var(COUNT, relax.TensorType((), "int32"))
        totals: dict[str, relax.Expr] = {}

        bb = relax.BlockBuilder()
        attrs = dict(func.attrs or {})
        with bb.function("main", [*params, *held.values(), count], attrs=attrs):
            with bb.dataflow():
                total = _Total(bb, count, mean=self.update)
                for binding in bindings_of(func):
                    if isinstance(binding.value, relax.Tuple):
                        continue  # the old result
                    env[binding.var] = bb.emit(substitute(binding.value, env))
                    for name, value in named:  # at once, so that the gradient dies
                        if binding.var.same_as(value):
                            totals[name] = total(held[name], env[binding.var])
                for name, value in named:
                    if name not in totals:  # a parameter or a constant, which nothing binds
                        totals[name] = total(held[name], substitute(value, env))
                kept = [substitute(value, env) for value in statistics]
                sums = [totals[name] for name, _ in named]
                if self.update:
                    none = bb.emit(relax.op.zeros((), "int32"))
                    results = [sums[-1], *kept, none, *sums[:-1]]
                else:
                    more = bb.emit(add(count, relax.const(1, "int32")))
                    results = [substitute(loss, env), *kept, *sums, more]
                result = bb.emit_output(relax.Tuple(results))
            bb.emit_func_output(result)
        before = [str(name) for name in attrs.get("running_statistics", [])]
        main = bb.get()["main"]
        if self.update:
            main = main.with_attr("running_statistics", [*before, COUNT])
        else:
            main = _without_unread(main).with_attr("updates", [*before, *held, COUNT])
        out = mod.clone()
        out["main"] = main
        return out


def _without_unread(func: relax.Function) -> relax.Function:
    """Drop the parameters that only an update would read: slices of weights."""
    read = relax.analysis.free_vars(func.body)
    params = [p for p in func.params if p in read]
    return relax.Function(params, func.body, func.ret_ty, attrs=func.attrs)


class _Total:
    """Emits a + g, or its mean; what depends on the count alone is emitted once."""

    def __init__(self, bb: relax.BlockBuilder, count: relax.Var, *, mean: bool) -> None:
        self.bb, self.count, self.mean = bb, count, mean
        self.holds = bb.emit(greater(count, relax.const(0, "int32")))
        self.batches: dict[str, relax.Expr] = {}

    def __call__(self, accumulator: relax.Var, value: relax.Expr) -> relax.Expr:
        dtype = str(accumulator.ty.dtype)
        held = where(self.holds, accumulator, relax.const(0, dtype))
        total = self.bb.emit(add(held, value))
        if not self.mean:
            return total
        if dtype not in self.batches:
            batches = add(self.count, relax.const(1, "int32"))
            self.batches[dtype] = self.bb.emit(astype(batches, dtype))
        return self.bb.emit(divide(total, self.batches[dtype]))

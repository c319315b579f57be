"""Append the loss, so that ``main`` returns the number that training minimises.

Before:  main(parameters…, inputs…) -> logits
After:   main(parameters…, inputs…, labels) -> (loss, rest…)                 measure="loss"
         main(parameters…, inputs…, labels) -> (loss, correct)               measure="accuracy"

``correct`` counts the samples whose largest logit is the label's; of yes-or-no outputs, those on
the label's side of 0. Running statistics that ``DecomposeBatchNorm`` returned beside the output
stay behind the loss; the teacher's logits that ``AppendTeacher`` returned last go into it.
"""

from typing import Literal

import tvm
from tvm import relax
from tvm.relax.op import argmax, astype, equal, greater, multiply, not_equal
from tvm.relax.op import sum as sum_

from pock_tvm.losses import BinaryCrossEntropy, Distillation, Loss
from pock_tvm.relay_passes.loss_values import labels_type, loss_value
from pock_tvm.relay_passes.rewrite import bindings_of, substitute


@tvm.transform.module_pass(opt_level=0, name="AppendLoss")
class AppendLoss:
    """Replace the model's output by its loss against ``labels``."""

    def __init__(self, loss: Loss, measure: Literal["loss", "accuracy"] = "loss") -> None:
        self.loss = loss
        self.measure = measure

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        func = mod["main"]
        params = [relax.Var(p.name, p.ty) for p in func.params]
        env: dict[relax.Var, relax.Expr] = dict(zip(func.params, params, strict=True))
        output, *rest = _fields(func)
        teacher = rest.pop() if isinstance(self.loss, Distillation) else None
        taken = labels_type(self.loss, output.ty)
        labels = None if taken is None else relax.Var("labels", taken)
        bb = relax.BlockBuilder()
        inputs = params if labels is None else [*params, labels]
        with bb.function("main", inputs, attrs=dict(func.attrs or {})):
            with bb.dataflow():
                for binding in bindings_of(func):
                    env[binding.var] = bb.emit(substitute(binding.value, env))
                logits = substitute(output, env)
                goal = None if teacher is None else substitute(teacher, env)
                results = [bb.emit(loss_value(bb, self.loss, logits, labels, goal))]
                results += [substitute(r, env) for r in rest]
                if self.measure == "accuracy" and self.loss.counts:
                    results.append(bb.emit(_correct(bb, self.loss, logits, labels)))
                result = bb.emit_output(relax.Tuple(results))
            bb.emit_func_output(result)
        out = mod.clone()
        out["main"] = bb.get()["main"]
        return out


def _fields(func: relax.Function) -> list[relax.Expr]:
    """Return the outputs of ``func``, looking through the variable that binds their tuple."""
    result = func.body.body
    values = {b.var: b.value for b in bindings_of(func)}
    bound = values.get(result, result)
    return list(bound.fields) if isinstance(bound, relax.Tuple) else [result]


def _correct(
    bb: relax.BlockBuilder, loss: Loss, logits: relax.Expr, labels: relax.Var
) -> relax.Expr:
    if isinstance(loss, BinaryCrossEntropy):
        # as integers: TVM's code for operators on truth values does not verify
        yes = astype(greater(logits, relax.const(0, logits.ty.dtype)), "int32")
        wanted = astype(greater(labels, relax.const(0.5, labels.ty.dtype)), "int32")
        return sum_(astype(equal(yes, wanted), "int32"))
    hits = astype(equal(bb.emit(astype(argmax(logits, axis=-1), "int32")), labels), "int32")
    ignored = getattr(loss, "ignore_index", -1)
    if ignored >= 0:  # a class of that number exists, and may be predicted
        counts = not_equal(labels, relax.const(ignored, "int32"))
        hits = multiply(hits, astype(counts, "int32"))
    return sum_(hits)

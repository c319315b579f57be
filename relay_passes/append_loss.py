"""Append the loss, so that ``main`` returns the number that training minimises.

Before:  main(parameters…, inputs…) -> logits
After:   main(parameters…, inputs…, labels) -> (loss, rest…)                 measure="loss"
         main(parameters…, inputs…, labels) -> (loss, correct)               measure="accuracy"

``correct`` counts the samples whose largest logit is the label's. Running statistics that
``DecomposeBatchNorm`` returned beside the output stay behind the loss.
"""

from typing import Literal

import tvm
from tvm import relax
from tvm.relax.op import argmax, astype, equal, mean, multiply, reshape, subtract
from tvm.relax.op import sum as sum_

from pock_tvm.losses import CrossEntropy, Loss
from pock_tvm.relay_passes.operators.cross_entropy import cross_entropy
from pock_tvm.relay_passes.rewrite import bindings_of, static_shape, substitute


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
        labels = relax.Var("labels", labels_type(self.loss, output.ty))
        bb = relax.BlockBuilder()
        with bb.function("main", [*params, labels], attrs=dict(func.attrs or {})):
            with bb.dataflow():
                for binding in bindings_of(func):
                    env[binding.var] = bb.emit(substitute(binding.value, env))
                logits = substitute(output, env)
                results = [bb.emit(_loss(bb, self.loss, logits, labels))]
                results += [substitute(r, env) for r in rest]
                if self.measure == "accuracy" and isinstance(self.loss, CrossEntropy):
                    results.append(bb.emit(_correct(bb, logits, labels)))
                result = bb.emit_output(relax.Tuple(results))
            bb.emit_func_output(result)
        out = mod.clone()
        out["main"] = bb.get()["main"]
        return out


def labels_type(loss: Loss, output: relax.TensorType) -> relax.TensorType:
    """Return the type of the labels that ``loss`` compares a model's ``output`` with."""
    shape = [int(d) for d in output.shape]
    if isinstance(loss, CrossEntropy):
        return relax.TensorType(shape[:-1], "int32")
    return relax.TensorType(shape, output.dtype)


def _fields(func: relax.Function) -> list[relax.Expr]:
    """Return the outputs of ``func``, looking through the variable that binds their tuple."""
    result = func.body.body
    values = {b.var: b.value for b in bindings_of(func)}
    bound = values.get(result, result)
    return list(bound.fields) if isinstance(bound, relax.Tuple) else [result]


def _rows(bb: relax.BlockBuilder, logits: relax.Expr) -> relax.Expr:
    shape = static_shape(logits)
    if len(shape) == 2:
        return logits
    return bb.emit(reshape(logits, (-1, shape[-1])))


def _loss(bb: relax.BlockBuilder, loss: Loss, logits: relax.Expr, labels: relax.Var) -> relax.Expr:
    if isinstance(loss, CrossEntropy):
        flat = labels if labels.ty.ndim == 1 else bb.emit(reshape(labels, (-1,)))
        return cross_entropy(
            _rows(bb, logits),
            flat,
            label_smoothing=loss.label_smoothing,
            ignore_index=loss.ignore_index,
        )
    difference = bb.emit(subtract(logits, labels))
    return mean(multiply(difference, difference))


def _correct(bb: relax.BlockBuilder, logits: relax.Expr, labels: relax.Var) -> relax.Expr:
    predicted = bb.emit(astype(argmax(logits, axis=-1), "int32"))
    return sum_(astype(equal(predicted, labels), "int32"))

"""Write batch normalization out as arithmetic, with frozen or with batch statistics.

Before:  y = batch_norm(x, γ, β, mean, var)[0]
After:   y = (x - mean) · (γ · rsqrt(var + ε)) + β                    statistics="frozen"
         y = (x - μ) · (γ · rsqrt(σ² + ε)) + β, with μ, σ² of the batch    statistics="train"

Fine-tuning keeps the statistics of pre-training by default: small batches would spoil them. With
batch statistics the running ones are updated as PyTorch does, mean ← (1 - m)·mean + m·μ and the
same for the variance with the unbiased σ²; the new values are returned beside the output, and the
attribute ``running_statistics`` names the parameters they replace, in order.

x - mean stands first so that the gradient of γ, Σ ȳ · (x - mean), cancels nothing.
"""

import math
from typing import Literal

import tvm
from tvm import relax
from tvm.relax.op import add, mean, multiply, reshape, rsqrt, subtract

from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape

Statistics = Literal["frozen", "train"]


@tvm.transform.module_pass(opt_level=0, name="DecomposeBatchNorm")
class DecomposeBatchNorm:
    """Replace every ``relax.nn.batch_norm`` by its arithmetic."""

    def __init__(self, statistics: Statistics = "frozen") -> None:
        self.statistics = statistics

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``; with batch statistics its result becomes (output, running values…)."""
        running: dict[str, relax.Expr] = {}

        def decompose(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if not is_call_to(value, "relax.nn.batch_norm"):
                return value
            if self.statistics == "frozen":
                x_mean, x_var = value.args[3], value.args[4]
            else:
                x_mean, x_var = _batch_statistics(bb, value)
                running.update(_running_statistics(bb, value, x_mean, x_var))
            y = bb.emit(_normalize(value, x_mean, x_var))
            return relax.Tuple([y, x_mean, x_var])

        out = rewrite_main(mod, decompose, extra_outputs=running.values())
        if running:
            out["main"] = out["main"].with_attr("running_statistics", list(running))
        return relax.transform.DeadCodeElimination()(out)


def _channels_first(call: relax.Call, per_channel: relax.Expr) -> relax.Expr:
    """Shape a per-channel vector so that it broadcasts against x along ``axis``."""
    shape, axis = static_shape(call.args[0]), int(call.attrs.axis)
    return reshape(per_channel, (shape[axis], *[1] * (len(shape) - 1 - axis)))


def _normalize(call: relax.Call, x_mean: relax.Expr, x_var: relax.Expr) -> relax.Expr:
    x, gamma, beta = call.args[:3]
    eps = relax.const(float(call.attrs.epsilon), x.ty.dtype)
    scale = multiply(gamma, rsqrt(add(x_var, eps)))
    centered = subtract(x, _channels_first(call, x_mean))
    return add(multiply(centered, _channels_first(call, scale)), _channels_first(call, beta))


def _batch_statistics(bb: relax.BlockBuilder, call: relax.Call) -> tuple[relax.Expr, relax.Expr]:
    """Return mean and biased variance over all axes but the channels'."""
    x = call.args[0]
    axes = [a for a in range(x.ty.ndim) if a != int(call.attrs.axis)]
    x_mean = bb.emit(mean(x, axes))
    centered = subtract(x, _channels_first(call, x_mean))
    return x_mean, bb.emit(mean(multiply(centered, centered), axes))


def _running_statistics(
    bb: relax.BlockBuilder, call: relax.Call, x_mean: relax.Expr, x_var: relax.Expr
) -> dict[str, relax.Expr]:
    """Return the new running mean and variance by the name of the parameter they replace."""
    x, running_mean, running_var = call.args[0], call.args[3], call.args[4]
    shape = static_shape(x)
    count = math.prod(shape) // shape[int(call.attrs.axis)]
    momentum = float(call.attrs.momentum)

    def blend(old: relax.Expr, new: relax.Expr, factor: float) -> relax.Expr:
        keep, take = (relax.const(v, x.ty.dtype) for v in (1 - momentum, momentum * factor))
        return bb.emit(add(multiply(old, keep), multiply(new, take)))

    unbiased = count / max(count - 1, 1)
    return {
        running_mean.name: blend(running_mean, x_mean, 1.0),
        running_var.name: blend(running_var, x_var, unbiased),
    }

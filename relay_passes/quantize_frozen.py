"""Compute products with frozen weights in 8-bit integers, as far as nothing before them learns.

Before:  y = conv2d(x, w)                      # w frozen, x of frozen layers alone
After:   s = max(|x|) / 127                    # of each pixel; of each sample for larger windows
         y = scaled(int8_conv2d(words(x, s), words of w), s, scales of w)

The scales of a weight are one per output channel, found at compile time; those of the activations
come with each batch, so that nothing has to be calibrated. No gradient passes here, whichever
loss: what learns lies behind. Depthwise and grouped convolutions stay as they are: their sums are
short. Run it on the canonical form, before ``DeriveBackward``.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
import tvm
from tvm import relax
from tvm.relax.op import abs as absolute
from tvm.relax.op import max as maximum_of
from tvm.relax.op import maximum, multiply, reshape
from tvm.relax.op.nn import pad

from pock_tvm.relay_passes.operators.conv2d import Window
from pock_tvm.relay_passes.operators.int8 import (
    LIMIT,
    int8_conv2d,
    int8_scaled,
    int8_words,
    quantize_weight,
)
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, rewrite_main, static_shape

Frozen = Literal["float32", "int8"]
"""How products with frozen weights are computed where no gradient passes."""

_WINDOW_OF_ONE = Window((1, 1), (0, 0, 0, 0), (1, 1), 1)


@tvm.transform.module_pass(opt_level=0, name="QuantizeFrozen")
class QuantizeFrozen:
    """Quantize every product of the frozen prefix.

    Args:
        weights: values of frozen parameters by name, in the layout that ``main`` reads.
        changing: names of the parameters that training changes.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], changing: Collection[str]) -> None:
        self.weights, self.changing = weights, set(changing)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        wanted = quantizable(mod, self.weights, self.changing)
        if not wanted:
            return mod
        order = iter([b.var in wanted for b in bindings_of(mod["main"])])

        def rule(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            return self._quantized(bb, value) if next(order) else value

        out = rewrite_main(mod, rule)
        out["main"] = _without(out["main"], set(wanted.values()))
        return out

    def _quantized(self, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x, weight = call.args[0], self.weights[call.args[1].name]
        shape = static_shape(x)
        out = static_shape(call)
        if is_call_to(call, "relax.matmul"):
            rows = (shape[0], 1, int(np.prod(shape[1:-1])), shape[-1])
            x = bb.emit(reshape(x, rows))
            return reshape(_product(bb, x, weight[None, None], _WINDOW_OF_ONE), out)
        return _product(bb, x, weight, Window.of(call))


def quantizable(
    mod: tvm.IRModule, weights: Mapping[str, np.ndarray], changing: Collection[str]
) -> dict[relax.Var, str]:
    """Return the products of the frozen prefix of ``main``, and the parameter that each reads."""
    func = mod["main"]
    learns = {p for p in func.params if p.name in changing}
    found = {}
    for binding in bindings_of(func):
        value = binding.value
        if learns & set(relax.analysis.free_vars(value)):
            learns.add(binding.var)
        elif _is_product(value) and value.args[1] in func.params:
            name = value.args[1].name
            if name in weights:
                found[binding.var] = name
    return found


def _without(func: relax.Function, names: Collection[str]) -> relax.Function:
    """Return ``func`` without those parameters of ``names`` that it no longer reads."""
    read = set(relax.analysis.free_vars(func.body))
    params = [p for p in func.params if p in read or p.name not in names]
    return relax.Function(params, func.body, func.ret_ty, func.is_pure, func.attrs)


def _is_product(value: relax.Expr) -> bool:
    if str(getattr(value.ty, "dtype", "")) != "float32":
        return False
    if is_call_to(value, "relax.matmul"):
        return len(value.args[0].ty.shape) > 1 and len(value.args[1].ty.shape) == 2
    return is_call_to(value, "relax.nn.conv2d") and int(value.attrs.groups) == 1


def _product(
    bb: relax.BlockBuilder, x: relax.Expr, weight: np.ndarray, window: Window
) -> relax.Expr:
    """Return the convolution of NHWC ``x`` with HWIO ``weight``."""
    alone = window == _WINDOW_OF_ONE and weight.shape[:2] == (1, 1)
    largest = maximum_of(absolute(x), axis=[3] if alone else [1, 2, 3], keepdims=True)
    steps = multiply(largest, relax.const(1 / LIMIT, "float32"))
    # A quiet sample is all zeros; its reciprocal must stay finite.
    scale = bb.emit(maximum(steps, relax.const(1e-30, "float32")))
    words = bb.emit(int8_words(x, scale))
    if any(window.padding):
        top, left, bottom, right = window.padding
        words = bb.emit(pad(words, [0, 0, top, bottom, left, right, 0, 0]))
    stored, scales = quantize_weight(weight)
    total = bb.emit(int8_conv2d(words, relax.const(stored), len(scales), window))
    return int8_scaled(total, scale, relax.const(scales))

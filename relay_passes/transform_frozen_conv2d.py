"""Convolve with a frozen 3x3 weight by Winograd's tiles, the weight transformed at compile time.

Before:  main(…, w):  y = conv2d(x, w);  x̄ = conv2d_data_grad(ȳ, w)          # w frozen
After:   main(…):     y = winograd_conv2d(x, <G w Gᵀ>);  x̄ = winograd_conv2d(ȳ, <G w Gᵀ>, gradient)

The transformed weight takes the place of the parameter, in both directions. Which weights are worth
it is for others to say: one that anything else reads cannot be replaced. Run it when the samples
are split (the shape of the result is written into the operator), before ``LegalizeOps``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax

from pock_tvm.relay_passes.operators.conv2d import Window
from pock_tvm.relay_passes.operators.winograd import winograd_conv2d
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, rewrite_main, static_shape

CHANNELS = 16
"""Channels on both sides are a multiple of this: transforms and products run over whole vectors."""

_GRADIENT = "pock.conv2d_data_grad"


@dataclass(frozen=True)
class Use:
    """One convolution with a 3x3 weight, in either direction."""

    shape: tuple[int, int, int, int]
    """NHWC shape of the result."""
    depth: int
    """Channels that are summed over."""
    gradient: bool


@tvm.transform.module_pass(opt_level=0, name="TransformFrozenConv2d")
class TransformFrozenConv2d:
    """Replace convolutions with the weights given.

    Args:
        transformed: by name, what ``transform_weight`` made of weights that ``uses_of`` found.
    """

    def __init__(self, transformed: Mapping[str, np.ndarray]) -> None:
        self.transformed = transformed

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``; without such a weight, return the module as it is."""
        gone = [p.name for p in mod["main"].params if p.name in self.transformed]
        if not gone:
            return mod
        constants = {name: relax.const(self.transformed[name]) for name in gone}

        def rule(_bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if not is_call_to(value, "relax.nn.conv2d", _GRADIENT):
                return value
            x, weight = value.args
            if not isinstance(weight, relax.Var) or weight.name not in constants:
                return value
            gradient = is_call_to(value, _GRADIENT)
            top, left = Window.of(value).padding[:2]
            padding = (2 - top, 2 - left) if gradient else (top, left)
            u = constants[weight.name]
            return winograd_conv2d(x, u, static_shape(value), padding, gradient=gradient)

        out = rewrite_main(mod, rule)
        main = out["main"]
        params = [p for p in main.params if p.name not in constants]
        out["main"] = relax.Function(params, main.body, main.ret_ty, main.is_pure, main.attrs)
        return out


def uses_of(mods: Sequence[tvm.IRModule], names: Collection[str]) -> dict[str, list[Use]]:
    """Return by name what the weights are used for that all of ``mods`` only convolve 3x3 with.

    With a stride, a dilation, groups, or few channels it is another kind of convolution.
    """
    found: dict[str, list[Use]] = {}
    others: set[str] = set()
    for mod in mods:
        main = mod["main"]
        weights = {p: p.name for p in main.params if p.name in names}
        for binding in bindings_of(main):
            use = _use(binding.value)
            for var in relax.analysis.free_vars(binding.value):
                if var not in weights:
                    continue
                if use is None or not binding.value.args[1].same_as(var):
                    others.add(weights[var])
                else:
                    found.setdefault(weights[var], []).append(use)
        others |= {weights[v] for v in relax.analysis.free_vars(main.body.body) if v in weights}
    return {name: uses for name, uses in found.items() if name not in others}


def _use(value: relax.Expr) -> Use | None:
    if not is_call_to(value, "relax.nn.conv2d", _GRADIENT):
        return None
    if str(value.ty.dtype) != "float32":
        return None
    window = Window.of(value)
    kernel, shape = static_shape(value.args[1]), static_shape(value)
    plain = (window.strides, window.dilation, window.groups) == ((1, 1), (1, 1), 1)
    if not plain or kernel[:2] != (3, 3) or max(window.padding[:2]) > 2:
        return None
    if kernel[2] % CHANNELS or kernel[3] % CHANNELS:
        return None
    batch, height, width, channels = shape
    return Use(
        (batch, height, width, channels),
        static_shape(value.args[0])[3],
        is_call_to(value, _GRADIENT),
    )

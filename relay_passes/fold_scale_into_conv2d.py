"""Scale the weight of a convolution instead of what it computes, where weight and scale learn.

Before:  y = (conv2d(x, w) - μ) · s            s, μ per output channel, as of a frozen batch norm
After:   y = conv2d(x, w · s) - μ · s

A net of which all learns would keep conv2d(x, w) for s̄ = Σ ȳ · (conv2d(x, w) - μ), and multiply
every cotangent by s. Derived from the second form, with G the weight gradient against ȳ, both
happen on tensors of the weight's size: w̄ = G · s, s̄ = Σ w · G - Σ ȳ · μ. (For s̄ two sums are
subtracted where the first form cancels nothing: its error is that of float32 times |μ| / σ.) What
learns stays the same, so an optimizer does the same step. Where one of them is frozen nothing is
kept for s̄, or the weight has no gradient to take it from; a scale costs nothing behind the
convolution, and it stays there. Run it before ``DeriveBackward``.
"""

from collections import Counter
from collections.abc import Collection

import tvm
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.rewrite import (
    bindings_of,
    is_call_to,
    rewrite_main,
    static_shape,
    variables_read,
)


@tvm.transform.module_pass(opt_level=0, name="FoldScaleIntoConv2d")
class FoldScaleIntoConv2d:
    """Rewrite a scaled convolution to one with a scaled weight."""

    def __init__(self, learning: Collection[str]) -> None:
        """Rewrite where the weight is named in ``learning``, and the scale is made of such."""
        self.learning = frozenset(learning)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        places = _scaled(mod["main"], self.learning)
        if not any(places):
            return mod
        here = iter(places)
        made: dict[relax.Var, relax.Call] = {}

        def fold(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if next(here):
                return _folded(bb, value, made)
            if not is_call_to(value, "relax.nn.conv2d", "relax.subtract"):
                return value
            var = bb.emit(value)
            made[var] = value
            return var

        return relax.transform.DeadCodeElimination()(rewrite_main(mod, fold))


def _scaled(main: relax.Function, learning: Collection[str]) -> list[bool]:
    """Tell for each binding whether it scales a convolution that nothing else reads."""
    values = {b.var: b.value for b in bindings_of(main)}
    learns = {p for p in main.params if p.name in learning}
    for var, value in values.items():
        if any(v in learns for v in variables_read(value)):
            learns.add(var)
    results = [*values.values(), main.body.body]
    reads = Counter(v for result in results for v in variables_read(result))

    def own(var: relax.Expr) -> relax.Expr | None:
        return values.get(var) if reads[var] == 1 else None

    def scales(value: relax.Expr) -> bool:
        if not is_call_to(value, "relax.multiply"):
            return False
        inner, scale = value.args
        call = own(inner)
        if is_call_to(call, "relax.subtract"):
            if static_shape(call.args[1]) != static_shape(scale):
                return False
            call = own(call.args[0])
        if not is_call_to(call, "relax.nn.conv2d") or call.attrs.kernel_layout != "HWIO":
            return False
        weight = call.args[1]
        if weight not in learns or weight in values or scale not in learns:
            return False
        return static_shape(scale) == static_shape(weight)[-1:]

    return [scales(b.value) for b in bindings_of(main)]


def _folded(
    bb: relax.BlockBuilder, value: relax.Call, made: dict[relax.Var, relax.Call]
) -> relax.Expr:
    inner, scale = value.args
    shift, call = None, made[inner]
    if is_call_to(call, "relax.subtract"):
        shift, call = call.args[1], made[call.args[0]]
    x, weight = call.args
    scaled = bb.emit(op.multiply(weight, scale))
    y = relax.Call(call.op, [x, scaled], call.attrs, call.ty_args)
    if shift is None:
        return y
    return op.subtract(bb.emit(y), bb.emit(op.multiply(shift, scale)))

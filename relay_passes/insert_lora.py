"""Adapt frozen weights by products of two small factors (Hu et al. 2021).

Before:  wt = permute_dims(w);  y = matmul(x, wt)
After:   wt = permute_dims(w);  y = matmul(x, wt) + matmul(s · matmul(x, A), B)

A is [in, rank], B [rank, out]; both are parameters of ``main`` already. A convolution of one pixel
is the same product over its channels. Run it once the convolutions are channels-last and before
weights are given the layout of their readers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import tvm
from tvm import relax
from tvm.relax.op import add, matmul, multiply, strided_slice

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape


class Factors(NamedTuple):
    """The names of two factors, and what their product is multiplied by."""

    a: str
    b: str
    scale: float


@tvm.transform.module_pass(opt_level=0, name="InsertLora")
class InsertLora:
    """Add the product of a weight's factors wherever the weight is multiplied with.

    Args:
        factors: by the name of the weight.

    Raises:
        UnsupportedModelError: a weight is not read as that of a linear layer.
    """

    def __init__(self, factors: Mapping[str, Factors]) -> None:
        self.factors = dict(factors)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        if not self.factors:
            return mod
        params = {p.name: relax.Var(p.name, p.ty) for p in mod["main"].params}
        # A transpose of a weight stands for the weight; what else reads it stays as it is.
        weight_of = {params[name]: name for name in self.factors}
        adapted: set[str] = set()

        def insert(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if is_call_to(value, "relax.permute_dims") and value.args[0] in weight_of:
                var = bb.emit(value)
                weight_of[var] = weight_of[value.args[0]]
                return var
            if not is_call_to(value, "relax.matmul", "relax.nn.conv2d"):
                return value
            name = weight_of.get(value.args[1])
            x = None if name is None else _rows(bb, value)
            if name is None or x is None:
                return value
            adapted.add(name)
            names = self.factors[name]
            a, b = params[names.a], params[names.b]
            scale = relax.const(names.scale, str(a.ty.dtype))
            inner = bb.emit(multiply(bb.emit(matmul(x, a)), scale))
            return add(bb.emit(value), bb.emit(matmul(inner, b)))

        renamed = {p: params[p.name] for p in mod["main"].params}
        out = rewrite_main(mod, insert, rename=renamed)
        missed = [name for name in self.factors if name not in adapted]
        if missed:
            raise UnsupportedModelError(
                f"LoRA on {missed[0]}: the model does not multiply by it as a linear layer or an "
                "unpadded 1x1 convolution does; leave it out of the targets"
            )
        return out


def _rows(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """Return what the last axis of a product's input is multiplied on; None if it is no product."""
    x, w = call.args
    if is_call_to(call, "relax.matmul"):
        return x if len(static_shape(w)) == 2 else None
    attrs = call.attrs
    one_pixel = attrs.kernel_layout == "HWIO" and static_shape(w)[:2] == (1, 1)
    if not one_pixel or int(attrs.groups) != 1 or any(int(p) for p in attrs.padding):
        return None
    strides = [int(s) for s in attrs.strides]
    if strides == [1, 1]:
        return x
    height, width = static_shape(x)[1:3]
    return bb.emit(strided_slice(x, [1, 2], [0, 0], [height, width], strides))

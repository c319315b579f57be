"""VJP rules of sums and products along an axis."""

import math

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.operators.scan import suffix
from pock_tvm.relay_passes.vjp.broadcast import normal_axes, normal_axis, reshape, shape_of
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("relax.cumsum")
def cumsum_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y_i = Σ x_j over j ≤ i: x̄_j = Σ ȳ_i over i ≥ j, the same sum read backwards."""
    axis, exclusive = call.attrs.axis, bool(call.attrs.exclusive)
    shape = shape_of(call.args[0])
    at = 0 if axis is None else int(axis)

    def x_bar() -> Expr:
        backwards = R.cumsum(R.flip(ct, at), at, exclusive=exclusive)
        return reshape(R.flip(backwards, at), shape)

    return (x_bar,)


@register_vjp("relax.cumprod")
def cumprod_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y_i = Π x_j over j ≤ i: x̄_j = (Π x_k over k < j) · s_j, s_j = ȳ_j + x_{j+1} s_{j+1}.

    Nothing is divided, so zeros among x do no harm. If y_i leaves x_i out, ȳ moves by one place.
    """
    (x,) = call.args
    shape = shape_of(x)
    flat = call.attrs.axis is None
    line = reshape(x, (math.prod(shape),)) if flat else x
    rank = 1 if flat else len(shape)
    at = 0 if flat else normal_axis(int(call.attrs.axis), rank)
    extent = math.prod(shape) if flat else shape[at]

    def x_bar() -> Expr:
        g = ct
        if call.attrs.exclusive:
            pads = [0] * (2 * rank)
            pads[2 * at + 1] = 1
            g = R.strided_slice(R.nn.pad(ct, pads), [at], [1], [extent + 1])
        before = R.cumprod(line, at, exclusive=True)
        return reshape(before * suffix(g, line, at), shape)

    return (x_bar,)


@register_vjp("relax.prod")
def prod_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = Π x: x̄_i = ȳ · Π x_j over j < i · Π x_j over j > i; zeros among x do no harm."""
    (x,) = call.args
    shape = shape_of(x)
    axes = normal_axes(call.attrs.axis, len(shape))
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*kept, *axes]
    lead = tuple(shape[axis] for axis in kept)
    count = math.prod(shape[axis] for axis in axes)

    def x_bar() -> Expr:
        rows = reshape(R.permute_dims(x, order), (*lead, count))
        last = len(lead)
        before = R.cumprod(rows, last, exclusive=True)
        behind = R.flip(R.cumprod(R.flip(rows, last), last, exclusive=True), last)
        rows_bar = reshape(ct, (*lead, 1)) * before * behind
        apart = reshape(rows_bar, [shape[axis] for axis in order])
        return R.permute_dims(apart, sorted(range(len(shape)), key=order.__getitem__))

    return (x_bar,)

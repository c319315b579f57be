"""VJP rules of operators that move elements without changing them."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
from tvm import relax
from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.operators.scatter_add import scatter_add
from pock_tvm.relay_passes.vjp.broadcast import Shape, normal_axis, reshape, shape_of, sum_to_shape
from pock_tvm.relay_passes.vjp.registry import Cotangents, operands, register_vjp


@register_vjp("relax.reshape")
@register_vjp("relax.flatten")
@register_vjp("relax.expand_dims")
@register_vjp("relax.squeeze")
def reshape_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y has the elements of x in the same order: x̄ = ȳ in the shape of x."""
    shape = shape_of(call.args[0])
    return (lambda: reshape(ct, shape),)


@register_vjp("relax.permute_dims")
def permute_dims_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x with its axes permuted: x̄ = ȳ permuted back."""
    rank = len(shape_of(out))
    axes = call.attrs.axes
    axes = range(rank)[::-1] if axes is None else [normal_axis(int(a), rank) for a in axes]
    inverse = sorted(range(rank), key=lambda axis: axes[axis])
    return (lambda: R.permute_dims(ct, inverse),)


@register_vjp("relax.broadcast_to")
def broadcast_to_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x repeated: x̄ = Σ ȳ over the repetitions."""
    return (lambda: sum_to_shape(ct, shape_of(out), shape_of(call.args[0])),)


@register_vjp("relax.full")
@register_vjp("relax.full_like")
def full_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = the number v everywhere: v̄ = Σ ȳ; what ``full_like`` takes its shape from gets none."""
    *shape_source, _ = operands(call)
    return (*(None for _ in shape_source), lambda: sum_to_shape(ct, shape_of(out), ()))


@register_vjp("relax.concat")
def concat_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = (x₀, x₁, …) along an axis: x̄ᵢ is the part of ȳ where xᵢ went."""
    axis = normal_axis(int(call.attrs.axis or 0), len(shape_of(out)))
    extents = [shape_of(part)[axis] for part in operands(call)]
    ends = list(itertools.accumulate(extents))
    return tuple(
        partial(R.strided_slice, ct, [axis], [end - extent], [end])
        for extent, end in zip(extents, ends, strict=True)
    )


@register_vjp("relax.stack")
def stack_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = (x₀, x₁, …) along an axis of its own: x̄ᵢ = ȳ[…, i, …]."""
    axis = normal_axis(int(call.attrs.axis or 0), len(shape_of(out)))

    def part_bar(i: int, shape: Shape) -> Expr:
        return reshape(R.strided_slice(ct, [axis], [i], [i + 1]), shape)

    return tuple(partial(part_bar, i, shape_of(part)) for i, part in enumerate(operands(call)))


@register_vjp("relax.split")
def split_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """(y₀, y₁, …) = x cut along an axis: x̄ = (ȳ₀, ȳ₁, …) joined again."""
    return (lambda: R.concat(ct, int(call.attrs.axis)),)


@register_vjp("relax.flip")
def flip_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x read backwards along an axis: x̄ = ȳ read backwards."""
    return (lambda: R.flip(ct, int(call.attrs.axis)),)


@register_vjp("relax.strided_slice")
def strided_slice_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x[begin:end:stride, …]: x̄ has ȳ in those places and 0 in the others."""
    x, *bounds = call.args
    return (lambda: _unslice(ct, shape_of(x), shape_of(out), _slices(shape_of(x), bounds)),)


def _slices(shape: Shape, bounds: Sequence[Expr]) -> dict[int, tuple[int, int]]:
    """Return the first place and the stride of a slice along each axis that it cuts."""
    axes, begin, end = ([int(n) for n in bound.fields] for bound in bounds[:3])
    strides = [int(n) for n in bounds[3].fields] if len(bounds) > 3 else [1] * len(axes)
    found = {}
    for axis, *bound in zip(axes, begin, end, strides, strict=True):
        at = normal_axis(axis, len(shape))
        first, _, stride = slice(*bound).indices(shape[at])
        found[at] = (first, stride)
    return found


def _unslice(y: Expr, shape: Shape, sliced: Shape, slices: dict[int, tuple[int, int]]) -> Expr:
    """Put ``y``, of shape ``sliced``, back into a tensor of zeros of shape ``shape``."""
    pads = [0] * (2 * len(shape))
    extents = list(sliced)
    for axis, (first, stride) in slices.items():
        if stride < 0:
            y = R.flip(y, axis)
            first, stride = first + (sliced[axis] - 1) * stride, -stride
        if stride > 1:
            # Behind each entry its stride - 1 zeros; those behind the last may stick out.
            apart = [*extents[: axis + 1], 1, *extents[axis + 1 :]]
            zeros = [0] * (2 * axis + 2) + [0, stride - 1] + [0] * (2 * (len(shape) - axis - 1))
            extents[axis] *= stride
            y = reshape(R.nn.pad(reshape(y, apart), zeros), extents)
        spare = shape[axis] - first - extents[axis]
        if spare < 0:
            extents[axis] += spare
            y = R.strided_slice(y, [axis], [0], [extents[axis]])
        pads[2 * axis : 2 * axis + 2] = first, max(spare, 0)
    return R.nn.pad(y, pads) if any(pads) else y


@register_vjp("relax.nn.pad")
def pad_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x with a border: x̄ = ȳ without it; a border copied from x gives its cotangent back."""
    x, *_ = call.args
    shape, mode = list(shape_of(out)), str(call.attrs.pad_mode)
    widths = [int(n) for n in call.attrs.pad_width]
    borders = list(zip(widths[::2], widths[1::2], strict=True))
    if min(widths) < 0:
        raise ValueError(f"a border of negative width: {call}")

    def x_bar() -> Expr:
        y = ct
        for axis, (before, after) in enumerate(borders):
            if not before and not after:
                continue
            extent = shape_of(x)[axis]
            if mode == "constant":
                y = R.strided_slice(y, [axis], [before], [before + extent])
            else:
                source = np.pad(np.arange(extent), (before, after), mode=_COPIED[mode])
                shape[axis] = extent
                y = scatter_add(y, relax.const(source, "int64"), tuple(shape), axis)
        return y

    return (x_bar,)


_COPIED: dict[str, Literal["reflect", "edge", "wrap"]] = {
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}
"""Relax's names of the borders that repeat the tensor, and NumPy's."""


@register_vjp("relax.repeat")
def repeat_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x with each entry of an axis n times in a row: x̄ = Σ ȳ over each n."""
    (x,) = call.args
    n, shape = int(call.attrs.repeats), shape_of(x)
    axis = call.attrs.axis
    at = len(shape) - 1 if axis is None else normal_axis(int(axis), len(shape))
    apart = (*shape[: at + 1], n, *shape[at + 1 :])
    return (lambda: R.sum(reshape(ct, apart), axis=[at + 1]),)


@register_vjp("relax.tile")
def tile_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x laid side by side: x̄ = Σ ȳ over the copies."""
    (x,) = call.args
    shape = shape_of(x)
    repeats = [int(n) for n in call.attrs.repeats]
    rank = max(len(repeats), len(shape))
    repeats = [1] * (rank - len(repeats)) + repeats
    extents = [1] * (rank - len(shape)) + list(shape)
    apart = [n for pair in zip(repeats, extents, strict=True) for n in pair]
    copies = list(range(0, 2 * rank, 2))
    return (lambda: reshape(R.sum(reshape(ct, apart), axis=copies), shape),)


@register_vjp("relax.meshgrid")
def meshgrid_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """(y₀, y₁, …) with y_k[i₀, i₁, …] = x_k[i_k]: x̄_k = Σ ȳ_k over the other axes."""
    if str(call.attrs.indexing or "ij") != "ij":
        raise ValueError(f"a grid whose first two axes are exchanged: {call}")
    lines = operands(call)
    axes = range(len(lines))

    def line_bar(k: int) -> Expr:
        others = [axis for axis in axes if axis != k]
        return reshape(R.sum(ct.fields[k], axis=others), shape_of(lines[k]))

    return tuple(partial(line_bar, k) for k in axes)


@register_vjp("relax.reverse_sequence")
def reverse_sequence_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x, the first n_b entries of sequence b backwards: x̄ = ȳ, turned round the same way."""
    lengths, attrs = call.args[1], call.attrs
    seq_axis, batch_axis = int(attrs.seq_axis), int(attrs.batch_axis)
    return lambda: R.reverse_sequence(ct, lengths, seq_axis, batch_axis), None

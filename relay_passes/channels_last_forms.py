"""What each operator on NC… tensors is on N…C ones; the table of ``ConvertToChannelsLast``.

A form is ``(converter, builder, call) -> channels-last value``, or None where the call has to stay
as it is. ``STARTS`` are the operators that move a window over a picture: they are converted
wherever they stand. ``FORMS`` are carried along once an operand is channels last.
"""

from collections.abc import Callable
from typing import Any, Protocol

import tvm_ffi
from tvm import relax
from tvm.relax import op
from tvm.relax.op import permute_dims, reshape

from pock_tvm.relay_passes.channels_last_windows import WINDOWS, Twins
from pock_tvm.relay_passes.layouts import axis_in_last, to_last
from pock_tvm.relay_passes.operators.registry import call_operator
from pock_tvm.relay_passes.rewrite import static_shape

Form = Callable[[Any, relax.BlockBuilder, relax.Call], relax.Expr | None]

ELEMENTWISE = frozenset(
    f"relax.{name}"
    for name in (  # noqa: SIM905  (a list would take 40 lines)
        "abs acos acosh add asin asinh astype atan atanh ceil clip cos cosh divide equal erf exp"
        " floor floor_divide floor_mod greater greater_equal less less_equal log log_add_exp"
        " logical_and logical_not logical_or logical_xor maximum minimum mod multiply negative"
        " nn.gelu nn.gelu_tanh nn.leakyrelu nn.relu nn.relu6 nn.selu nn.silu nn.softplus not_equal"
        " ones_like power round rsqrt sigmoid sign sin sinh sqrt square subtract tan tanh trunc"
        " where zeros_like"
    ).split()
)
REDUCTIONS = ("relax.mean", "relax.sum", "relax.max", "relax.min", "relax.variance", "relax.std")


class Converter(Twins, Protocol):
    """What forms ask of ``ConvertToChannelsLast``."""

    twins: dict[relax.Var, relax.Var]

    def has_twin(self, x: relax.Expr) -> bool:
        """Tell whether ``x`` is known channels last."""

    def operand(self, bb: relax.BlockBuilder, x: relax.Expr, rank: int) -> relax.Expr:
        """Return an operand as it broadcasts channels last."""


def _elementwise(
    converter: Converter, bb: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    rank = call.ty.ndim
    if rank < 3:
        return None
    operands = [converter.operand(bb, x, rank) for x in call.args]
    return relax.Call(call.op, operands, call.attrs, call.ty_args, call.span)


def _reduction(converter: Converter, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """Reduce the twin; without the reduced axes, only if what is left is N, C, … or in order."""
    (x,) = call.args
    reduce: Callable[..., relax.Expr] = getattr(op, call.op.name.removeprefix("relax."))
    if call.attrs.axis is None:
        if call.attrs.keepdims:
            return None
        return reduce(converter.twins[x], None)
    rank = x.ty.ndim
    axes = sorted({int(a) % rank for a in call.attrs.axis})
    kept = [a for a in range(rank) if a not in axes]
    places = [axis_in_last(a, rank) for a in kept]
    keepdims = bool(call.attrs.keepdims)
    carried = keepdims or (len(kept) >= 3 and kept[:2] == [0, 1])
    # A result of one or two axes has no twin; one of three or more would be taken for a twin.
    plain = len(kept) < 3 and places == sorted(places)
    if not carried and not plain:
        return None
    return reduce(
        converter.twins[x], sorted(axis_in_last(a, rank) for a in axes), keepdims=keepdims
    )


def _reshape(converter: Converter, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """Reshape the twin where N and C stay as they are, or where each picture is one pixel."""
    x = call.args[0]
    if not converter.has_twin(x):
        return None
    before, after = static_shape(x), static_shape(call)
    if len(after) >= 3 and before[:2] == after[:2]:
        return reshape(converter.twins[x], (after[0], *after[2:], after[1]))
    if len(after) < 3 and all(extent == 1 for extent in before[2:]):
        return reshape(converter.twins[x], after)
    return None


def _pad(converter: Converter, _bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    widths = [int(v) for v in call.attrs.pad_width]
    pairs = [widths[2 * axis : 2 * axis + 2] for axis in to_last(call.ty.ndim)]
    return op.nn.pad(
        converter.twins[call.args[0]],
        [v for pair in pairs for v in pair],
        pad_mode=call.attrs.pad_mode,
        pad_value=call.attrs.pad_value,
    )


def _concat(converter: Converter, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    (parts,) = call.args
    if not isinstance(parts, relax.Tuple) or call.attrs.axis is None:
        return None
    axis = axis_in_last(int(call.attrs.axis), call.ty.ndim)
    return op.concat([converter.last(bb, part) for part in parts.fields], axis)


def _split(converter: Converter, _bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x, at = call.args[0], call.attrs.indices_or_sections
    cuts = [int(cut) for cut in at] if isinstance(at, tvm_ffi.Array) else int(at)
    return op.split(converter.twins[x], cuts, axis_in_last(int(call.attrs.axis), x.ty.ndim))


def _strided_slice(
    converter: Converter, _bb: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    x, axes, *bounds = call.args
    if not all(isinstance(bound, relax.Tuple) for bound in (axes, *bounds)):
        return None
    places = [axis_in_last(int(a), x.ty.ndim) for a in axes.fields]
    limits = [[int(v) for v in bound.fields] for bound in bounds]
    return op.strided_slice(
        converter.twins[x], places, *limits, assume_inbound=call.attrs.assume_inbound
    )


def _softmax(converter: Converter, _bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    (x,) = call.args
    softmax: Callable[..., relax.Expr] = getattr(op.nn, call.op.name.removeprefix("relax.nn."))
    return softmax(converter.twins[x], axis_in_last(int(call.attrs.axis), x.ty.ndim))


def _group_norm(
    converter: Converter, _bb: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    x, gamma, beta = call.args
    attrs, rank = call.attrs, x.ty.ndim
    if not converter.has_twin(x):
        return None
    return op.nn.group_norm(
        converter.twins[x],
        gamma,
        beta,
        num_groups=attrs.num_groups,
        channel_axis=axis_in_last(int(attrs.channel_axis), rank),
        axes=sorted(axis_in_last(int(a), rank) for a in attrs.axes),
        epsilon=attrs.epsilon,
        center=attrs.center,
        scale=attrs.scale,
    )


def _layer_norm(
    converter: Converter, bb: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Normalize the twin; γ and β have the normalized axes, in the twin's order."""
    x, *scales = call.args
    rank = x.ty.ndim
    axes = sorted(int(a) % rank for a in call.attrs.axes)
    if not converter.has_twin(x) or 0 in axes:
        return None
    places = [axis_in_last(a, rank) for a in axes]
    order = sorted(range(len(axes)), key=places.__getitem__)
    if order != list(range(len(axes))):
        scales = [bb.emit(permute_dims(scale, order)) for scale in scales]
    normalize: Callable[..., relax.Expr] = getattr(op.nn, call.op.name.removeprefix("relax.nn."))
    return normalize(converter.twins[x], *scales, axes=sorted(places), epsilon=call.attrs.epsilon)


def _take(converter: Converter, _bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    x, indices = call.args
    if not converter.has_twin(x) or call.attrs.axis is None or indices.ty.ndim != 1:
        return None
    axis = axis_in_last(int(call.attrs.axis), x.ty.ndim)
    return op.take(converter.twins[x], indices, axis, call.attrs.mode)


def _dropout(converter: Converter, _bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """Drop out of the twin; where whole channels go together, their axes are counted in NC…."""
    x, *rest = call.args
    if not converter.has_twin(x) or len(call.attrs["shared"]):
        return None
    return relax.Call(call.op, [converter.twins[x], *rest], call.attrs)


def _resample(converter: Converter, _bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x, *tables = call.args
    axis = axis_in_last(int(call.attrs["axis"]), x.ty.ndim)
    return call_operator(call.op, converter.twins[x], *tables, axis=axis)


STARTS: dict[str, Form] = dict(WINDOWS)
"""Converted wherever they stand."""

FORMS: dict[str, Form] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(
        ("relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"), _reshape
    ),
    "pock.dropout": _dropout,
    "pock.resample": _resample,
    "relax.concat": _concat,
    "relax.nn.group_norm": _group_norm,
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.log_softmax": _softmax,
    "relax.nn.pad": _pad,
    "relax.nn.rms_norm": _layer_norm,
    "relax.nn.softmax": _softmax,
    "relax.split": _split,
    "relax.strided_slice": _strided_slice,
    "relax.take": _take,
}
"""Carried along once an operand has a twin."""

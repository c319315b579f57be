"""ONNX layers that TVM's converters write in a form whose gradient overflows, or not at all.

Its Elu, Selu and Mish take the exponential of every element, of which the gradient makes 0 · ∞; the
variance of its MeanVarianceNormalization is a difference of two great numbers; several
operands of Max, Min and Sum are first stacked.
"""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import Expr, op

from pock_tvm.relay_passes.operators.dropout import dropout
from pock_tvm.relay_passes.vjp.broadcast import dtype_of, shape_of

Operands = list[Expr | None]
Attributes = Mapping[str, Any]


def _number(value: float, like: Expr) -> Expr:
    return relax.const(float(value), dtype_of(like))


def _bent(bb: relax.BlockBuilder, x: Expr, straight: Expr, factor: float) -> Expr:
    """Return ``straight`` where x > 0, else factor · (eˣ - 1), with no exponential above 0."""
    zero = _number(0, x)
    below = bb.emit(op.minimum(x, zero))
    grown = bb.emit(bb.emit(op.exp(below)) - _number(1, x))
    return op.where(bb.emit(op.greater(x, zero)), straight, bb.emit(grown * _number(factor, x)))


def _elu(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    (x,) = inputs
    return _bent(bb, x, x, attrs.get("alpha", 1.0))


def _selu(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    (x,) = inputs
    gamma = attrs.get("gamma", 1.05070102214813232421875)
    alpha = attrs.get("alpha", 1.67326319217681884765625)
    return _bent(bb, x, bb.emit(x * _number(gamma, x)), alpha * gamma)


def _mish(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    """y = x · n / (n + 2), n = eˣ (eˣ + 2); the quotient is 1 beyond 20."""
    (x,) = inputs
    e = bb.emit(op.exp(bb.emit(op.minimum(x, _number(20, x)))))
    n = bb.emit(e * bb.emit(e + _number(2, x)))
    return x * bb.emit(n / bb.emit(n + _number(2, x)))


def _prelu(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    """y = x where x > 0, else x · slope, of any shape that broadcasts to that of x."""
    x, slope = inputs
    assert x is not None
    positive = bb.emit(op.greater(x, _number(0, x)))
    return op.where(positive, x, bb.emit(x * slope))


def _thresholded_relu(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    (x,) = inputs
    above = bb.emit(op.greater(x, _number(attrs.get("alpha", 1.0), x)))
    return op.where(above, x, _number(0, x))


def _pairwise(
    apply: Callable[[Expr, Expr], Expr],
    bb: relax.BlockBuilder,
    inputs: Operands,
    attrs: Attributes,
) -> Expr:
    return reduce(lambda x, y: bb.emit(apply(x, y)), inputs)


def _mean(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    total = _pairwise(op.add, bb, inputs, attrs)
    return total * _number(1 / len(inputs), total)


def _instance_norm(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    """A group norm of single channels."""
    x, scale, bias = inputs
    channels, axes = shape_of(x)[1], list(range(2, len(shape_of(x))))
    return op.nn.group_norm(x, scale, bias, channels, 1, axes, float(attrs.get("epsilon", 1e-5)))


def _group_norm(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    """Scale and bias are those of channels, before opset 21 those of groups."""
    x, scale, bias = inputs
    shape, groups = shape_of(x), int(attrs["num_groups"])
    if shape_of(scale) != (shape[1],):
        scale, bias = (bb.emit(op.repeat(v, shape[1] // groups, 0)) for v in (scale, bias))
    axes = list(range(2, len(shape)))
    return op.nn.group_norm(x, scale, bias, groups, 1, axes, float(attrs.get("epsilon", 1e-5)))


def _mean_variance_norm(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    """(x - μ) / σ; ONNX's definition keeps the quotient finite by 1e-9."""
    (x,) = inputs
    axes = [int(a) for a in attrs.get("axes", (0, 2, 3))]
    centred = bb.emit(x - bb.emit(op.mean(x, axes, keepdims=True)))
    variance = bb.emit(op.mean(bb.emit(centred * centred), axes, keepdims=True))
    return centred / bb.emit(bb.emit(op.sqrt(variance)) + _number(1e-9, x))


def _lp_norm(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    """x / ‖x‖ along an axis, 0 where the norm is 0."""
    (x,) = inputs
    assert x is not None
    axis, order = int(attrs.get("axis", -1)), int(attrs.get("p", 2))
    if order == 1:
        norm = bb.emit(op.sum(bb.emit(op.abs(x)), [axis], keepdims=True))
        divisor = bb.emit(op.where(bb.emit(op.equal(norm, _number(0, x))), _number(1, x), norm))
        return x / divisor
    # The root is taken where the sum is not 0 only: its slope at 0 is infinite.
    total = bb.emit(op.sum(bb.emit(x * x), [axis], keepdims=True))
    safe = bb.emit(op.where(bb.emit(op.equal(total, _number(0, x))), _number(1, x), total))
    return x * bb.emit(op.rsqrt(safe))


def _cumsum(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    x, axis = inputs
    if not isinstance(axis, GenericConst):
        raise NotImplementedError("operand 1 depends on the input data")
    at = int(axis.value.numpy().item())
    exclusive = bool(attrs.get("exclusive", 0))
    if not attrs.get("reverse", 0):
        return op.cumsum(x, at, exclusive=exclusive)
    backwards = bb.emit(op.cumsum(bb.emit(op.flip(x, at)), at, exclusive=exclusive))
    return op.flip(backwards, at)


def _reverse_sequence(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    x, lengths = inputs
    seq_axis, batch_axis = int(attrs.get("time_axis", 0)), int(attrs.get("batch_axis", 1))
    return op.reverse_sequence(x, lengths, seq_axis, batch_axis)


def _space_to_depth(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    (x,) = inputs
    n, c, h, w = shape_of(x)
    b = int(attrs["blocksize"])
    apart = bb.emit(op.reshape(x, (n, c, h // b, b, w // b, b)))
    crd = attrs.get("mode", b"DCR") == b"CRD"
    moved = bb.emit(op.permute_dims(apart, [0, 1, 3, 5, 2, 4] if crd else [0, 3, 5, 1, 2, 4]))
    return op.reshape(moved, (n, c * b * b, h // b, w // b))


def _dropout(bb: relax.BlockBuilder, inputs: Operands, attrs: Attributes) -> Expr:
    """Kept as an operator; whether it drops anything is decided when the model is compiled."""
    x = inputs[0]
    ratio = attrs.get("ratio", 0.5)
    if len(inputs) > 1 and inputs[1] is not None:
        if not isinstance(inputs[1], GenericConst):
            raise NotImplementedError("a ratio that depends on the input data")
        ratio = np.asarray(inputs[1].value.numpy()).item()
    if not ratio:
        return x
    return dropout(x, p=float(ratio), stream=int(attrs["stream"]), shared=[])


CONVERTERS: dict[str, Callable[[relax.BlockBuilder, Operands, Attributes], Expr]] = {
    "CumSum": _cumsum,
    "Dropout": _dropout,
    "Elu": _elu,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LpNormalization": _lp_norm,
    "Max": partial(_pairwise, op.maximum),
    "Mean": _mean,
    "MeanVarianceNormalization": _mean_variance_norm,
    "Min": partial(_pairwise, op.minimum),
    "Mish": _mish,
    "PRelu": _prelu,
    "ReverseSequence": _reverse_sequence,
    "Selu": _selu,
    "SpaceToDepth": _space_to_depth,
    "Sum": partial(_pairwise, op.add),
    "ThresholdedRelu": _thresholded_relu,
}

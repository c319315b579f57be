"""How single StableHLO operations become Relax.

TVM 0.27 has an importer, which does not start with today's ``jaxlib`` and reads neither the
dimension numbers of convolutions and products nor the axes of a broadcast; these are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.operators.stop_gradient import stop_gradient


@dataclass(frozen=True)
class Splat:
    """One number in every place: most constants of a model, which need no memory."""

    value: np.ndarray
    shape: tuple[int, ...]


Value = Any
"""A tensor as an expression, or a ``Splat``."""

Rule = Callable[[Any, list[Value]], Value]
"""(operation, its operands) -> its result."""


def shape_of(type_: Any) -> tuple[int, ...]:
    """Return the static shape of a tensor type."""
    return tuple(ir.ShapedType(type_).shape)


def dtype_of(type_: Any) -> str:
    """Return the name that Relax has for the elements of a tensor type."""
    element = str(ir.ShapedType(type_).element_type)
    if element == "i1":
        return "bool"
    return (
        element.replace("ui", "uint") if element[0] == "u" else _LETTERS[element[0]] + element[1:]
    )


_LETTERS = {"f": "float", "i": "int"}


def whole(value: Value) -> relax.Expr:
    """Return a value as a tensor of its full shape."""
    if not isinstance(value, Splat):
        return value
    return relax.const(np.broadcast_to(value.value, value.shape), str(value.value.dtype))


def _either(value: Value) -> relax.Expr:
    """Return an operand of an elementwise operation; a number stays a scalar."""
    return relax.const(value.value, str(value.value.dtype)) if isinstance(value, Splat) else value


def _elementwise(function: Callable[..., relax.Expr]) -> Rule:
    def convert(node: Any, operands: list[Value]) -> Value:
        if all(isinstance(x, Splat) for x in operands):
            return function(*map(whole, operands))
        return function(*map(_either, operands))

    return convert


def _ints(node: Any, name: str, default: Any = None) -> list[int]:
    if name not in node.attributes:
        return list(default)
    return [int(v) for v in node.attributes[name]]


def _pads(node: Any, count: int) -> list[tuple[int, int]]:
    if "padding" not in node.attributes:
        return [(0, 0)] * count
    pads = np.broadcast_to(np.array(node.attributes["padding"]), (count, 2))
    return [(int(a), int(b)) for a, b in pads]


def _constant(node: Any, operands: list[Value]) -> Value:
    attribute, type_ = node.attributes["value"], node.results[0].type
    shape, dtype = shape_of(type_), dtype_of(type_)
    if attribute.is_splat:
        return Splat(np.asarray(attribute.get_splat_value().value, dtype), shape)
    return relax.const(np.array(attribute).astype(dtype).reshape(shape), dtype)


def _broadcast(node: Any, operands: list[Value]) -> Value:
    (x,) = operands
    shape = shape_of(node.results[0].type)
    if isinstance(x, Splat):
        return Splat(x.value, shape)
    axes = _ints(node, "broadcast_dimensions")
    extents = [1] * len(shape)
    for axis, extent in zip(axes, x.ty.shape, strict=True):
        extents[axis] = int(extent)
    y = _reshaped(x, extents)
    return y if tuple(extents) == shape else op.broadcast_to(y, shape)


def _reshaped(x: relax.Expr, shape: Sequence[int]) -> relax.Expr:
    return x if [int(d) for d in x.ty.shape] == list(shape) else op.reshape(x, shape)


def _convert_type(node: Any, operands: list[Value]) -> Value:
    (x,) = operands
    dtype = dtype_of(node.results[0].type)
    if isinstance(x, Splat):
        return Splat(x.value.astype(dtype), x.shape)
    return op.astype(x, dtype)


def _compare(node: Any, operands: list[Value]) -> Value:
    direction = str(node.attributes["comparison_direction"]).split()[-1].rstrip(">")
    return _elementwise(_COMPARISONS[direction])(node, operands)


_COMPARISONS = {
    "EQ": op.equal,
    "NE": op.not_equal,
    "LT": op.less,
    "LE": op.less_equal,
    "GT": op.greater,
    "GE": op.greater_equal,
}


def _maximum(node: Any, operands: list[Value]) -> Value:
    for x, y in (operands, operands[::-1]):
        if isinstance(y, Splat) and not y.value and not isinstance(x, Splat):
            return op.nn.relu(x)
    return _elementwise(op.maximum)(node, operands)


def _clamp(node: Any, operands: list[Value]) -> Value:
    low, x, high = operands
    return op.minimum(op.maximum(whole(x), _either(low)), _either(high))


def _iota(node: Any, operands: list[Value]) -> Value:
    type_ = node.results[0].type
    shape, axis = shape_of(type_), int(ir.IntegerAttr(node.attributes["iota_dimension"]).value)
    numbers = np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return relax.const(np.broadcast_to(numbers, shape).astype(dtype_of(type_)), dtype_of(type_))


def _slice(node: Any, operands: list[Value]) -> Value:
    begin, end, stride = (_ints(node, k) for k in ("start_indices", "limit_indices", "strides"))
    return op.strided_slice(whole(operands[0]), list(range(len(begin))), begin, end, stride)


def _pad(node: Any, operands: list[Value]) -> Value:
    x, fill = operands
    low, high = _ints(node, "edge_padding_low"), _ints(node, "edge_padding_high")
    if any(_ints(node, "interior_padding")) or min(*low, *high) < 0 or not isinstance(fill, Splat):
        raise NotImplementedError("pads between elements, negative ones, or of a computed value")
    pairs = [n for pair in zip(low, high, strict=True) for n in pair]
    return op.nn.pad(whole(x), pairs, "constant", float(fill.value))


def _reduce(node: Any, operands: list[Value]) -> Value:
    if len(operands) != 2:
        raise NotImplementedError("a reduction of several tensors at once")
    x, axes, reducer = whole(operands[0]), _ints(node, "dimensions"), _reducer(node)
    if reducer in ("and", "or"):
        if str(x.ty.dtype) != "bool":
            raise NotImplementedError(f"a reduction of integers by {reducer}, bit by bit")
        found = _REDUCTIONS[reducer](op.astype(x, "int32"), axes)
        return op.not_equal(found, relax.const(0, "int32"))
    return _REDUCTIONS[reducer](x, axes)


_REDUCTIONS = {"add": op.sum, "maximum": op.max, "minimum": op.min, "and": op.min, "or": op.max}


def _reducer(node: Any) -> str:
    body = [o.operation.name for o in node.regions[0].blocks[0].operations]
    if len(body) != 2 or body[0].removeprefix("stablehlo.") not in _REDUCTIONS:
        raise NotImplementedError(f"a reduction by {', '.join(body[:-1])}")
    return body[0].removeprefix("stablehlo.")


def _pool(node: Any, operands: list[Value]) -> Value:
    x = whole(operands[0])
    window = _ints(node, "window_dimensions")
    strides = _ints(node, "window_strides", [1] * len(window))
    pads = _pads(node, len(window))
    outside = (window[0], window[-1], strides[0], strides[-1]) != (1, 1, 1, 1) or any(
        pads[0] + pads[-1]
    )
    dilated = _ints(node, "base_dilations", [1]) + _ints(node, "window_dilations", [1])
    if len(window) != 4 or outside or set(dilated) != {1}:
        raise NotImplementedError("a window over other axes than height and width, or dilated")
    reducer = _reducer(node)
    (top, bottom), (left, right) = pads[1:3]
    place = (window[1:3], strides[1:3], [top, left, bottom, right])
    if reducer == "maximum":
        return op.nn.max_pool2d(x, *place, layout="NHWC")
    if reducer != "add":
        raise NotImplementedError(f"windows reduced by {reducer}")
    mean = op.nn.avg_pool2d(x, *place, count_include_pad=True, layout="NHWC")
    return op.multiply(mean, relax.const(window[1] * window[2], str(x.ty.dtype)))


def _convolution(node: Any, operands: list[Value]) -> Value:
    x, w = map(whole, operands)
    places = stablehlo.ConvDimensionNumbers(node.attributes["dimension_numbers"])
    spatial = list(places.input_spatial_dimensions)
    count = len(spatial)
    groups = int(ir.IntegerAttr(node.attributes["feature_group_count"]).value)
    batches = int(ir.IntegerAttr(node.attributes["batch_group_count"]).value)
    if count != 2 or batches != 1 or set(_ints(node, "lhs_dilation", [1])) != {1}:
        raise NotImplementedError("a convolution that is transposed, or not over height and width")
    (top, bottom), (left, right) = _pads(node, 2)
    x_axes = [places.input_batch_dimension, *spatial, places.input_feature_dimension]
    w_axes = [
        *places.kernel_spatial_dimensions,
        places.kernel_input_feature_dimension,
        places.kernel_output_feature_dimension,
    ]
    y = op.nn.conv2d(
        _permuted(x, x_axes),
        _permuted(w, w_axes),
        strides=_ints(node, "window_strides", [1, 1]),
        padding=[top, left, bottom, right],
        dilation=_ints(node, "rhs_dilation", [1, 1]),
        groups=groups,
        data_layout="NHWC",
        kernel_layout="HWIO",
    )
    y_axes = [
        places.output_batch_dimension,
        *places.output_spatial_dimensions,
        places.output_feature_dimension,
    ]
    return _permuted(y, [y_axes.index(k) for k in range(4)])


def _permuted(x: relax.Expr, axes: list[int]) -> relax.Expr:
    return x if axes == sorted(axes) else op.permute_dims(x, axes)


def _dot(node: Any, operands: list[Value]) -> Value:
    """Any product: batch axes first, then what stays, then what is summed over."""
    x, y = map(whole, operands)
    axes = stablehlo.DotDimensionNumbers(node.attributes["dot_dimension_numbers"])
    shape = shape_of(node.results[0].type)
    x_batch, y_batch = list(axes.lhs_batching_dimensions), list(axes.rhs_batching_dimensions)
    x_sum, y_sum = list(axes.lhs_contracting_dimensions), list(axes.rhs_contracting_dimensions)
    xs, ys = ([int(d) for d in v.ty.shape] for v in (x, y))
    x_free = [k for k in range(len(xs)) if k not in x_batch + x_sum]
    y_free = [k for k in range(len(ys)) if k not in y_batch + y_sum]
    inner = int(np.prod([xs[k] for k in x_sum]))
    batch = [xs[k] for k in x_batch]
    rows, columns = (int(np.prod([s[k] for k in f])) for s, f in ((xs, x_free), (ys, y_free)))
    x, y = _permuted(x, x_batch + x_free + x_sum), _permuted(y, y_batch + y_sum + y_free)
    if len(x_free) == len(y_free) == len(x_sum) == 1:
        return op.matmul(x, y)
    left = op.reshape(x, [*batch, rows, inner])
    right = op.reshape(y, [*batch, inner, columns])
    return op.reshape(op.matmul(left, right), shape)


def _gather(node: Any, operands: list[Value]) -> Value:
    """Rows of a table, as an embedding looks them up; indices beyond it mean its ends."""
    table, indices = map(whole, operands)
    places = stablehlo.GatherDimensionNumbers(node.attributes["dimension_numbers"])
    extents = [int(d) for d in table.ty.shape]
    where = [int(d) for d in indices.ty.shape]
    rows = (
        list(places.collapsed_slice_dims) == list(places.start_index_map) == [0]
        and _ints(node, "slice_sizes") == [1, *extents[1:]]
        and places.index_vector_dim == len(where) - 1
        and where[-1] == 1
        and list(places.offset_dims)
        == list(range(len(where) - 1, len(where) - 1 + len(extents) - 1))
    )
    if not rows:
        raise NotImplementedError("a gather of anything but whole rows")
    zero, last = (relax.const(n, str(indices.ty.dtype)) for n in (0, extents[0] - 1))
    bounded = op.minimum(op.maximum(op.reshape(indices, where[:-1]), zero), last)
    return op.take(table, bounded, 0)


def _log_plus_one(x: relax.Expr) -> relax.Expr:
    return op.log(op.add(x, relax.const(1, str(x.ty.dtype))))


def _exponential_minus_one(x: relax.Expr) -> relax.Expr:
    return op.subtract(op.exp(x), relax.const(1, str(x.ty.dtype)))


_SAME = [
    "abs",
    "add",
    "ceil",
    "divide",
    "floor",
    "log",
    "minimum",
    "multiply",
    "power",
    "rsqrt",
    "sign",
    "sqrt",
    "subtract",
    "tanh",
]
"""Names that StableHLO and Relax share."""

_OTHER = {
    "stablehlo.and": op.logical_and,
    "stablehlo.cosine": op.cos,
    "stablehlo.exponential": op.exp,
    "stablehlo.exponential_minus_one": _exponential_minus_one,
    "stablehlo.log_plus_one": _log_plus_one,
    "stablehlo.logistic": op.sigmoid,
    "stablehlo.negate": op.negative,
    "stablehlo.not": op.logical_not,
    "stablehlo.or": op.logical_or,
    "stablehlo.select": op.where,
    "stablehlo.sine": op.sin,
    "chlo.erf": op.erf,
    "chlo.square": lambda x: op.multiply(x, x),
}
RULES: dict[str, Rule] = {
    **{f"stablehlo.{name}": _elementwise(getattr(op, name)) for name in _SAME},
    **{name: _elementwise(function) for name, function in _OTHER.items()},
    "stablehlo.broadcast_in_dim": _broadcast,
    "stablehlo.clamp": _clamp,
    "stablehlo.compare": _compare,
    "stablehlo.concatenate": lambda node, xs: op.concat(
        [whole(x) for x in xs], int(ir.IntegerAttr(node.attributes["dimension"]).value)
    ),
    "stablehlo.constant": _constant,
    "stablehlo.convert": _convert_type,
    "stablehlo.convolution": _convolution,
    "stablehlo.dot_general": _dot,
    "stablehlo.gather": _gather,
    "stablehlo.iota": _iota,
    "stablehlo.maximum": _maximum,
    # What JAX's ``stop_gradient`` is lowered to: see jax_function.
    "stablehlo.optimization_barrier": lambda node, xs: stop_gradient(whole(xs[0])),
    "stablehlo.pad": _pad,
    "stablehlo.reduce": _reduce,
    "stablehlo.reduce_window": _pool,
    "stablehlo.reshape": lambda node, xs: _reshaped(whole(xs[0]), shape_of(node.results[0].type)),
    "stablehlo.slice": _slice,
    "stablehlo.transpose": lambda node, xs: op.permute_dims(
        whole(xs[0]), _ints(node, "permutation")
    ),
}
"""One rule per operation; calls are inlined by the importer."""

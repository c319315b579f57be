"""Why the operators that importers make need no rule of their own, each with an example.

An example is called with ``x``, a float tensor of shape (2, 3, 4, 6); ``w`` below builds weights.
"""

from collections.abc import Callable

import numpy as np
from tvm import relax, tirx
from tvm.relax import Expr, op

Example = Callable[[Expr], Expr]


def ints(*values: int) -> Expr:
    return relax.const(np.array(values), "int64")


def truths(*values: bool) -> Expr:
    return relax.const(np.array(values), "bool")


def w(*shape: int) -> Expr:
    return relax.const(np.full(shape, 0.5), "float32")


def line(x: Expr) -> Expr:
    return op.reshape(x, (2, 12, 6))


def volume(x: Expr) -> Expr:
    return op.reshape(x, (2, 3, 2, 2, 6))


WHOLE = "its result has no floating-point numbers"
MADE = "it is made of numbers, shapes or indices alone"

WITHOUT_FLOATS: dict[str, Example] = {
    "relax.argmax": lambda x: op.argmax(x, 1),
    "relax.argmin": lambda x: op.argmin(x, 1),
    "relax.argsort": op.argsort,
    "relax.assert_op": lambda x: op.assert_op(relax.const(True)),
    "relax.bitwise_and": lambda x: op.bitwise_and(ints(1), ints(2)),
    "relax.bitwise_not": lambda x: op.bitwise_not(ints(1)),
    "relax.bitwise_or": lambda x: op.bitwise_or(ints(1), ints(2)),
    "relax.bitwise_xor": lambda x: op.bitwise_xor(ints(1), ints(2)),
    "relax.bucketize": lambda x: op.bucketize(x, w(3)),
    "relax.equal": lambda x: op.equal(x, x),
    "relax.greater": lambda x: op.greater(x, x),
    "relax.greater_equal": lambda x: op.greater_equal(x, x),
    "relax.isfinite": op.isfinite,
    "relax.isinf": op.isinf,
    "relax.isnan": op.isnan,
    "relax.left_shift": lambda x: op.left_shift(ints(1), ints(2)),
    "relax.less": lambda x: op.less(x, x),
    "relax.less_equal": lambda x: op.less_equal(x, x),
    "relax.logical_and": lambda x: op.logical_and(truths(True), truths(False)),
    "relax.logical_not": lambda x: op.logical_not(truths(True)),
    "relax.logical_or": lambda x: op.logical_or(truths(True), truths(False)),
    "relax.logical_xor": lambda x: op.logical_xor(truths(True), truths(False)),
    "relax.multinomial_from_uniform": lambda x: op.multinomial_from_uniform(
        w(2, 3), w(2, 1), op.reshape(ints(0, 1), (2, 1))
    ),
    "relax.nonzero": op.nonzero,
    "relax.not_equal": lambda x: op.not_equal(x, x),
    "relax.null_value": lambda x: op.null_value(),
    "relax.quantize": lambda x: op.quantize(x, w(6), relax.const(np.zeros(6), "int8"), -1),
    "relax.right_shift": lambda x: op.right_shift(ints(1), ints(2)),
    "relax.shape_to_tensor": lambda x: op.shape_to_tensor(relax.ShapeExpr([2, 3])),
    "relax.size": op.size,
    "relax.tensor_to_shape": lambda x: op.tensor_to_shape(ints(2, 3)),
}
"""Comparisons, indices, counts, codes: no gradient flows through what is not a float."""

MADE_OF_NUMBERS: dict[str, Example] = {
    "relax.arange": lambda x: op.arange(0, 3, 1, "float32"),
    "relax.hamming_window": lambda x: op.hamming_window(4, True, 0.5, 0.5, "float32"),
    "relax.one_hot": lambda x: op.one_hot(
        ints(0, 2),
        relax.prim_value(tirx.const(1.0, "float32")),
        relax.prim_value(tirx.const(0.0, "float32")),
        3,
        -1,
    ),
    "relax.zeros": lambda x: op.zeros((2, 3), "float32"),
}
"""Operators without a float operand that a gradient could reach."""

REWRITTEN_EXAMPLES: dict[str, Example] = {
    "relax.image.resize2d": lambda x: op.image.resize2d(x, (8, 8)),
    "relax.nn.adaptive_avg_pool1d": lambda x: op.nn.adaptive_avg_pool1d(line(x), [2]),
    "relax.nn.adaptive_avg_pool3d": lambda x: op.nn.adaptive_avg_pool3d(volume(x), [1, 2, 3]),
    "relax.nn.attention": lambda x: op.nn.attention(x, x, x),
    "relax.nn.attention_bias": lambda x: op.nn.attention(x, x, x, w(2, 4, 3, 3)),
    "relax.nn.avg_pool1d": lambda x: op.nn.avg_pool1d(line(x), 2),
    "relax.nn.avg_pool3d": lambda x: op.nn.avg_pool3d(volume(x), [1, 2, 2]),
    "relax.nn.batch_norm": lambda x: op.nn.batch_norm(x, w(3), w(3), w(3), w(3), 1, training=False),
    "relax.nn.conv1d": lambda x: op.nn.conv1d(line(x), w(5, 12, 3)),
    "relax.nn.conv1d_transpose": lambda x: op.nn.conv1d_transpose(line(x), w(12, 5, 3)),
    "relax.nn.conv2d_transpose": lambda x: op.nn.conv2d_transpose(x, w(3, 5, 3, 3)),
    "relax.nn.conv3d": lambda x: op.nn.conv3d(volume(x), w(5, 3, 2, 2, 2)),
    "relax.nn.conv3d_transpose": lambda x: op.nn.conv3d_transpose(volume(x), w(3, 5, 2, 2, 2)),
    "relax.nn.instance_norm": lambda x: op.nn.instance_norm(x, w(3), w(3), 1, [2, 3]),
    "relax.nn.max_pool1d": lambda x: op.nn.max_pool1d(line(x), 2),
    "relax.nn.max_pool3d": lambda x: op.nn.max_pool3d(volume(x), [1, 2, 2]),
    "relax.nn.pixel_shuffle": lambda x: op.nn.pixel_shuffle(op.reshape(x, (2, 12, 2, 3)), 2),
}

REFUSED = {
    "relax.call_dps_packed": "a call into TVM's runtime, which no artifact has",
    "relax.dequantize": "quantized training is not there yet",
    "relax.dynamic_strided_slice": "a length that depends on the data",
    "relax.image.affine_grid": "no rule yet",
    "relax.image.grid_sample": "no rule yet",
    "relax.memory.view": "the same bits as another type have no derivative",
    "relax.unique": "a length that depends on the data",
    "relax.vision.all_class_non_max_suppression": "a choice of boxes, for prediction",
    "relax.vision.get_valid_counts": "a choice of boxes, for prediction",
    "relax.vision.multibox_transform_loc": "a choice of boxes, for prediction",
    "relax.vision.non_max_suppression": "a choice of boxes, for prediction",
    "relax.vision.roi_align": "no rule yet",
    "relax.vision.roi_pool": "no rule yet",
}
"""Float operators that a model may hold behind nothing that learns; elsewhere it is refused."""

LIMITS = {
    "relax.clip": "0 at a bound",
    "relax.image.resize2d": "no crop",
    "relax.max": "shared by ties",
    "relax.maximum": "halved at ties",
    "relax.median": "one axis, or all elements",
    "relax.meshgrid": "indexing `ij`",
    "relax.min": "shared by ties",
    "relax.minimum": "halved at ties",
    "relax.nn.adaptive_avg_pool2d": "channels last",
    "relax.nn.attention": "no sliding window",
    "relax.nn.attention_bias": "no sliding window",
    "relax.nn.avg_pool2d": "channels last, no dilation",
    "relax.nn.batch_norm": "of frozen statistics, or with `--batch-norm train` the batch's",
    "relax.nn.conv2d": "channels last",
    "relax.nn.max_pool2d": "channels last; to the first of equals",
    "relax.nn.pad": "no width below zero",
}
"""What to know about a gradient."""

"""FoldScaleIntoConv2d: the same function, the same gradients, nothing kept for the scale."""

import numpy as np
import pytest
import tvm
from pass_checks import check_pass, main_of, operators, run
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.fold_scale_into_conv2d import FoldScaleIntoConv2d
from pock_tvm.relay_passes.rewrite import bindings_of, static_shape

X, CHANNELS = (2, 6, 6, 4), 8
SHAPES = {"x": X, "w": (3, 3, 4, CHANNELS), "s": (CHANNELS,), "m": (CHANNELS,)}
GROUPED = {"x": X, "w": (3, 3, 1, 4), "s": (4,), "m": (4,)}


def conv2d(bb, x, w, groups=1):
    layouts = {"data_layout": "NHWC", "kernel_layout": "HWIO"}
    return bb.emit(op.nn.conv2d(x, w, padding=1, groups=groups, **layouts))


def scaled(bb, x, w, s, m, groups=1):
    return bb.emit(op.multiply(conv2d(bb, x, w, groups), s))


def normed(bb, x, w, s, m, groups=1):
    return bb.emit(op.multiply(bb.emit(op.subtract(conv2d(bb, x, w, groups), m)), s))


def of_its_groups(build):
    return lambda bb, **tensors: build(bb, **tensors, groups=4)


CASES = {
    "scaled": (scaled, SHAPES),
    "normed": (normed, SHAPES),
    "depthwise": (of_its_groups(normed), GROUPED),
}


@pytest.mark.parametrize("case", CASES)
def test_the_weight_is_scaled(case):
    build, shapes = CASES[case]
    mod = main_of(build, shapes)
    after = check_pass(FoldScaleIntoConv2d(["w", "s"]), mod)
    assert operators(after)[:2] == ["multiply", "nn.conv2d"]
    whole = static_shape(mod["main"].body.body)
    multiplied = [b for b in bindings_of(after["main"]) if "multiply" in str(b.value)]
    assert all(static_shape(b.var) != whole for b in multiplied)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_first_form(case):
    build, shapes = CASES[case]

    def loss(bb, **tensors):
        y = build(bb, **tensors)
        return bb.emit(op.sum(bb.emit(op.nn.relu(bb.emit(y * y)))))

    mod = main_of(loss, shapes)
    derive = DeriveBackward(["w", "s", "x", *(["m"] if case != "scaled" else [])])
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=shape) for shape in shapes.values()]
    wanted = run(derive(mod), *arrays)
    got = run(derive(FoldScaleIntoConv2d(["w", "s"])(mod)), *arrays)
    for a, b in zip(got, wanted, strict=True):
        # float64; a sum over up to 72 pixels and 36 products, less another of its size
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize("learning", [["s", "m"], ["w", "m"]])
def test_where_one_is_frozen_the_scale_stays_behind_the_convolution(learning):
    mod = main_of(normed, SHAPES)
    tvm.ir.assert_structural_equal(FoldScaleIntoConv2d(learning)(mod), mod)


def read_twice(bb, x, w, s, m):
    y = conv2d(bb, x, w)
    return bb.emit(op.add(bb.emit(op.multiply(y, s)), y))


def by_pixels(bb, x, w, s, m):
    y = conv2d(bb, x, w)
    return bb.emit(op.multiply(y, bb.emit(op.sum(y, [3], keepdims=True))))


def shifted_by_pixels(bb, x, w, s, m):
    y = bb.emit(op.subtract(conv2d(bb, x, w), bb.emit(op.sum(x, [3], keepdims=True))))
    return bb.emit(op.multiply(y, s))


@pytest.mark.parametrize("build", [read_twice, by_pixels, shifted_by_pixels])
def test_what_is_no_scale_of_channels_alone_stays(build):
    mod = main_of(build, SHAPES)
    tvm.ir.assert_structural_equal(FoldScaleIntoConv2d(["w", "s"])(mod), mod)


def test_a_weight_that_is_computed_stays():
    def build(bb, x, w, s, m):
        return scaled(bb, x, bb.emit(op.add(w, relax.const(1.0, "float64"))), s, m)

    mod = main_of(build, SHAPES)
    tvm.ir.assert_structural_equal(FoldScaleIntoConv2d(["w", "s"])(mod), mod)

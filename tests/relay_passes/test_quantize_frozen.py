"""QuantizeFrozen: which products become integers, and what they compute."""

import numpy as np
import pytest
from pass_checks import check_pass, main_of, operators, run
from tvm import relax
from tvm.relax.op import matmul, nn

from pock_tvm.relay_passes.batch_axis import sample_operands
from pock_tvm.relay_passes.quantize_frozen import QuantizeFrozen
from pock_tvm.relay_passes.rewrite import bindings_of

INTEGERS = ["abs", "max", "multiply", "maximum", "pock.int8_words", "pock.int8_conv2d"]
ONE = [*INTEGERS, "pock.int8_scaled"]


def conv2d(x, w, **options):
    return nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO", **options)


def drawn(shapes):
    generator = np.random.default_rng(0)
    return {n: generator.standard_normal(s).astype("float32") for n, s in shapes.items()}


def quantized(x, axes):
    """Return integers and the scale that they are multiplied by, in float64."""
    scale = np.abs(x.astype("float64")).max(axes, keepdims=True) / 127
    return np.rint(x / scale), scale


def steps_of(x, axes):
    """How far a rounded value is off, at most."""
    return 0.5001 * quantized(x, axes)[1]


def prefix(build, shapes, changing=()):
    before = main_of(build, shapes, "float32")
    values = drawn(shapes)
    weights = {name: values[name] for name in shapes if name != "x"}
    after = check_pass(QuantizeFrozen(weights, changing), before, same_values=False)
    return before, after, values


@pytest.mark.parametrize(
    ("window", "options", "axes"),
    [
        ((1, 1), {}, 3),  # each pixel has a scale of its own
        ((3, 3), {"padding": [1, 1, 1, 1]}, (1, 2, 3)),
        ((3, 2), {"strides": [2, 1], "padding": [1, 0, 2, 1]}, (1, 2, 3)),
        ((1, 1), {"strides": [2, 2]}, (1, 2, 3)),
    ],
)
def test_a_convolution_is_that_of_the_rounded_values(window, options, axes):
    shapes = {"x": (2, 6, 5, 7), "w": (*window, 7, 5)}
    before, after, values = prefix(lambda bb, x, w: bb.emit(conv2d(x, w, **options)), shapes)
    assert [p.name for p in after["main"].params] == ["x"]
    (got,) = run(after, values["x"])
    x, x_scale = quantized(values["x"], axes)
    w, w_scale = quantized(values["w"], (0, 1, 2))
    (wanted,) = run(before, *((a * s).astype("float32") for a, s in ((x, x_scale), (w, w_scale))))
    # A value on a half may round to either side: a few of the 7 · taps terms, by one step each.
    wrong = np.abs(got - wanted)
    assert (wrong <= 1e-4 * np.abs(wanted).max()).mean() > 0.95
    assert wrong.max() <= 2 * x_scale.max() * np.abs(values["w"]).max()


def test_a_convolution_is_near_the_exact_one():
    shapes = {"x": (2, 6, 5, 7), "w": (3, 3, 7, 5)}
    before, after, values = prefix(lambda bb, x, w: bb.emit(conv2d(x, w)), shapes)
    (got,), (exact,) = run(after, values["x"]), run(before, values["x"], values["w"])
    x, w = values["x"], values["w"]
    # |x w - x' w'| <= |x| |w - w'| + |w'| |x - x'|, over 63 terms
    of_weights = np.abs(x).max() * steps_of(w, (0, 1, 2)).max()
    of_pixels = np.abs(w).max() * steps_of(x, (1, 2, 3)).max()
    assert 0 < np.abs(got - exact).max() <= 63 * (of_weights + of_pixels)


def test_rows_of_a_product_have_scales_of_their_own():
    shapes = {"x": (2, 3, 8), "w": (8, 5)}
    before, after, values = prefix(lambda bb, x, w: bb.emit(matmul(x, w)), shapes)
    assert operators(after) == ["reshape", *ONE, "reshape"]
    values["x"] *= 10.0 ** np.arange(-3, 3).reshape(2, 3, 1)
    (got,), (exact,) = run(after, values["x"]), run(before, values["x"], values["w"])
    bound = 8 * (
        np.abs(values["x"]).max(-1, keepdims=True) * steps_of(values["w"], 0)
        + np.abs(values["w"]).max() * steps_of(values["x"], -1)
    )
    assert (np.abs(got - exact) <= bound).all()


def test_what_follows_a_weight_that_learns_stays():
    shapes = {"x": (1, 4, 4, 8), "a": (1, 1, 8, 8), "b": (1, 1, 8, 8), "c": (1, 1, 8, 8)}

    def build(bb, x, a, b, c):
        return bb.emit(conv2d(bb.emit(conv2d(bb.emit(conv2d(x, a)), b)), c))

    _, after, _ = prefix(build, shapes, changing=["b"])
    assert operators(after) == [*ONE, "nn.conv2d", "nn.conv2d"]
    assert [p.name for p in after["main"].params] == ["x", "b", "c"]
    before, after, _ = prefix(build, shapes, changing=["a"])
    assert operators(after) == operators(before)


def test_a_weight_that_others_read_stays_too():
    shapes = {"x": (1, 4, 4, 8), "w": (1, 1, 8, 8)}

    def build(bb, x, w):
        return bb.emit(conv2d(x, w)), bb.emit(nn.relu(w))

    _, after, _ = prefix(build, shapes)
    assert [p.name for p in after["main"].params] == ["x", "w"]


def test_depthwise_convolutions_and_products_of_two_inputs_stay():
    def depthwise(bb, x, w):
        return bb.emit(conv2d(x, w, groups=8))

    before, after, _ = prefix(depthwise, {"x": (1, 4, 4, 8), "w": (3, 3, 1, 8)})
    assert operators(after) == operators(before)
    before, after, _ = prefix(lambda bb, x: bb.emit(matmul(x, x)), {"x": (4, 4)})
    assert operators(after) == operators(before)


def test_a_picture_of_zeros_stays_one():
    shapes = {"x": (1, 4, 4, 8), "w": (1, 1, 8, 8)}
    _, after, values = prefix(lambda bb, x, w: bb.emit(conv2d(x, w)), shapes)
    assert not run(after, 0 * values["x"])[0].any()


def test_samples_stay_apart():
    shapes = {"x": (2, 4, 4, 8), "w": (3, 3, 8, 8)}
    _, after, _ = prefix(lambda bb, x, w: bb.emit(conv2d(x, w)), shapes)
    calls = [b.value for b in bindings_of(after["main"]) if isinstance(b.value, relax.Call)]
    found = {call.op.name: sample_operands(call) for call in calls}
    assert found["pock.int8_words"] == (True, True)
    assert found["pock.int8_conv2d"] == (True, False)
    assert found["pock.int8_scaled"] == (True, True, False)

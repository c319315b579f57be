"""TransformFrozenConv2d: which weights may be transformed, and what becomes of their readers."""

import numpy as np
import pytest
from pass_checks import check_pass, main_of, operators, run
from tvm.relax.op import nn

from pock_tvm.relay_passes.operators.conv2d import Window, data_grad
from pock_tvm.relay_passes.operators.minimal_filtering import transform_weight
from pock_tvm.relay_passes.transform_frozen_conv2d import TransformFrozenConv2d, Use, uses_of

SHAPES = {"x": (1, 5, 6, 16), "w": (3, 3, 16, 32)}
PLAIN = Window((1, 1), (1, 1, 1, 1), (1, 1), 1)


def conv2d(x, w, **options):
    options = {"padding": [1, 1, 1, 1], **options}
    return nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO", **options)


def both_ways(bb, x, w):
    y = bb.emit(conv2d(x, w))
    return bb.emit(data_grad(y, w, (1, 5, 6, 16), PLAIN))


@pytest.mark.parametrize("m", [2, 4])
def test_both_directions_read_one_transformed_weight(m):
    before = main_of(both_ways, SHAPES, "float32")
    assert uses_of([before], ["w"]) == {
        "w": [Use((1, 5, 6, 32), 16, False), Use((1, 5, 6, 16), 32, True)]
    }
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal(s).astype("float32") for s in SHAPES.values())
    transform = TransformFrozenConv2d({"w": transform_weight(w, m, 16)})
    after = check_pass(transform, before, same_values=False)
    assert operators(after) == ["pock.winograd_conv2d"] * 2
    assert [p.name for p in after["main"].params] == ["x"]
    (expected,), (got,) = run(before, x, w), run(after, x)
    # 144 and 288 products behind each other; test_winograd.py has the bound of each convolution
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_other_weights_are_left_alone():
    before = main_of(both_ways, SHAPES, "float32")
    assert TransformFrozenConv2d({"v": np.zeros(1, "float32")})(before).same_as(before)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (SHAPES, {"strides": [2, 2]}),
        (SHAPES, {"dilation": [2, 2]}),
        (SHAPES, {"padding": [3, 3, 3, 3]}),
        ({"x": (1, 5, 6, 32), "w": (3, 3, 16, 32)}, {"groups": 2}),
        ({"x": (1, 5, 6, 16), "w": (5, 5, 16, 32)}, {}),
        ({"x": (1, 5, 6, 24), "w": (3, 3, 24, 32)}, {}),
        ({"x": (1, 5, 6, 16), "w": (3, 3, 16, 40)}, {}),
    ],
)
def test_other_convolutions_have_no_tiles(shapes, options):
    before = main_of(lambda bb, x, w: bb.emit(conv2d(x, w, **options)), shapes, "float32")
    assert uses_of([before], ["w"]) == {}


def test_a_weight_that_others_read_stays():
    def build(bb, x, w):
        return bb.emit(conv2d(x, w)), bb.emit(nn.relu(w))

    alone = main_of(lambda bb, x, w: bb.emit(conv2d(x, w)), SHAPES, "float32")
    assert uses_of([alone, main_of(build, SHAPES, "float32")], ["w"]) == {}

"""DecomposeLayers: attention and instance norms, with the values of TVM's own lowering."""

import numpy as np
import pytest
from pass_checks import check_pass, main_of, operators, random_arguments, run
from tvm.relax import op

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.decompose_layers import DecomposeLayers

QUERIES, KEYS = (2, 3, 2, 4), (2, 5, 2, 4)


@pytest.mark.parametrize("mask", [None, "TopLeft", "BottomRight"])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_keeps_its_values(mask, biased) -> None:
    def build(bb, q, k, v, b):
        bias = b if biased else None
        return bb.emit(op.nn.attention(q, k, v, bias, scale=0.3, causal_mask=mask))

    shapes = {"q": QUERIES, "k": KEYS, "v": (2, 5, 2, 6), "b": (2, 1, 1, 5)}
    after = check_pass(DecomposeLayers(), main_of(build, shapes))
    assert "nn.softmax" in operators(after)
    assert not {"nn.attention", "nn.attention_bias"} & set(operators(after))


def test_scale_is_that_of_the_width() -> None:
    def build(bb, q, k):
        return bb.emit(op.nn.attention(q, k, k))

    check_pass(DecomposeLayers(), main_of(build, {"q": QUERIES, "k": KEYS}))


def test_a_window_is_refused() -> None:
    def build(bb, q):
        return bb.emit(op.nn.attention(q, q, q, causal_mask="TopLeft", window_size=2))

    with pytest.raises(UnsupportedModelError, match="sliding window"):
        DecomposeLayers()(main_of(build, {"q": QUERIES}))


def test_an_instance_norm_is_a_group_norm_of_channels() -> None:
    def build(bb, x, g, b):
        return bb.emit(op.nn.instance_norm(x, g, b, channel_axis=1, axes=[2, 3], epsilon=1e-3))

    before = main_of(build, {"x": (2, 3, 4, 5), "g": (3,), "b": (3,)}, "float32")
    after = check_pass(DecomposeLayers(), before, same_values=False)
    assert operators(after) == ["nn.group_norm"]
    x, g, b = random_arguments(before)
    centred = x - x.mean((2, 3), keepdims=True)
    normed = centred / np.sqrt((centred**2).mean((2, 3), keepdims=True) + 1e-3)
    wanted = normed * g[:, None, None] + b[:, None, None]
    np.testing.assert_allclose(run(after, x, g, b)[0], wanted, rtol=1e-4, atol=1e-5)


def test_other_operators_are_left_alone() -> None:
    def build(bb, x):
        return bb.emit(op.nn.softmax(x))

    before = main_of(build, {"x": (3, 4)})
    check_pass(DecomposeLayers(), before, expected=before)

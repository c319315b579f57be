"""PackMasks: which activations shrink to bits, and that no gradient changes by a bit."""

import numpy as np
import pytest
import tvm
from pass_checks import check_pass, main_of, operators, run
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.operators.bits import words_shape
from pock_tvm.relay_passes.pack_masks import PackMasks
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, static_shape

PIXELS, CHANNELS = 64, 6
SHAPES = {"x": (PIXELS, CHANNELS), "b": (CHANNELS,), "w": (CHANNELS, CHANNELS)}


def net(activation, *, shapes=None):
    """Return the gradients' module of ``Σ (activation(x² + b) @ w)²`` by name of what learns."""

    def build(bb, x, b, w):
        y = bb.emit(activation(bb, bb.emit(bb.emit(x * x) - b)))
        z = bb.emit(op.matmul(y, w))
        return bb.emit(op.sum(bb.emit(z * z)))

    return main_of(build, shapes or SHAPES)


def relu(bb, x):
    return op.nn.relu(x)


def relu6(bb, x):
    return op.clip(x, 0, 2)


def leaky(bb, x):
    return op.nn.leakyrelu(x, 0.1)


def relu_of_a_view(bb, x):
    y = bb.emit(op.nn.relu(x))
    four = bb.emit(op.reshape(y, (4, PIXELS // 4, CHANNELS)))
    return op.reshape(bb.emit(op.nn.relu(four)), (PIXELS, CHANNELS))


def derived(mod, *trainable):
    return tvm.ir.transform.Sequential(
        [DeriveBackward(trainable), relax.transform.EliminateCommonSubexpr()]
    )(mod)


@pytest.mark.parametrize("activation", [relu, relu6, leaky])
def test_a_bias_alone_keeps_bits(activation):
    before = derived(net(activation), "b")
    after = check_pass(PackMasks(), before)
    names = operators(after)
    assert names.count("pock.pack_bits") == names.count("pock.unpack_bits") == 1
    # The words stand in the forward pass: before the matmul that reads the activation.
    assert names.index("pock.pack_bits") < names.index("matmul")
    (packed,) = (b for b in bindings_of(after["main"]) if is_call_to(b.value, "pock.pack_bits"))
    assert static_shape(packed.var) == words_shape((PIXELS, CHANNELS))


def test_an_activation_that_a_weight_gradient_reads_stays():
    before = derived(net(relu), "b", "w")
    assert operators(check_pass(PackMasks(), before)) == operators(before)


def test_a_view_that_is_read_later_keeps_its_tensor():
    def build(bb, x, b, w):
        y = bb.emit(op.nn.relu(bb.emit(bb.emit(x * x) - b)))
        rows = bb.emit(op.reshape(y, (PIXELS // 2, 2, CHANNELS)))
        z = bb.emit(op.matmul(rows, w))
        return bb.emit(op.sum(bb.emit(z * z)))

    before = derived(main_of(build, SHAPES), "b", "w")
    assert "pock.pack_bits" not in operators(check_pass(PackMasks(), before))
    frozen = derived(main_of(build, SHAPES), "b")
    assert "pock.pack_bits" in operators(check_pass(PackMasks(), frozen))


def test_two_conditions_on_one_activation_free_it_together():
    before = derived(net(relu_of_a_view), "b")
    names = operators(check_pass(PackMasks(), before))
    assert names.count("pock.pack_bits") == 2


def test_words_that_would_free_little_are_not_made():
    few = {"x": (1, CHANNELS), "b": (CHANNELS,), "w": (CHANNELS, CHANNELS)}  # words of 32 rows
    before = derived(net(relu, shapes=few), "b")
    assert operators(check_pass(PackMasks(), before)) == operators(before)


def test_an_input_is_not_freed():
    def build(bb, x, b, w):
        return bb.emit(op.sum(bb.emit(bb.emit(op.nn.leakyrelu(x, 0.1)) * b)))

    before = derived(main_of(build, SHAPES), "x")
    assert "pock.pack_bits" not in operators(check_pass(PackMasks(), before))


def test_the_gradient_is_that_of_the_comparison_at_its_bounds():
    """Zeros of the rectifier and its neighbours are on the same side in both."""
    before = derived(net(relu), "b")
    x = np.zeros(SHAPES["x"])
    x[::2] = 1
    arguments = (x, np.zeros(CHANNELS), np.ones(SHAPES["w"]))
    for got, wanted in zip(
        run(PackMasks()(before), *arguments), run(before, *arguments), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)

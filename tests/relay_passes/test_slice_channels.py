"""SliceChannels: the slice of a gradient is that of the whole gradient, and costs a slice."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from pass_checks import main_of, operators, run
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, static_shape
from pock_tvm.relay_passes.simplify_shapes import SimplifyShapes
from pock_tvm.relay_passes.slice_channels import SliceChannels, StoredSlice, slice_name


def conv(bb, x, w, **window):
    """A convolution whose input is a product, so that it is no parameter."""
    x = bb.emit(x * x)
    y = bb.emit(
        op.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO", out_dtype="float64", **window)
    )
    return bb.emit(op.sum(y * y))


def linear(bb, x, w):
    y = bb.emit(op.matmul(bb.emit(x * x), w))
    return bb.emit(op.sum(y * y))


def transposed_linear(bb, x, w):
    y = bb.emit(op.matmul(bb.emit(x * x), bb.emit(op.permute_dims(w, [1, 0]))))
    return bb.emit(op.sum(y * y))


def linear_twice(bb, x, w):
    y = bb.emit(op.nn.relu(bb.emit(op.matmul(bb.emit(x * x), w))))
    z = bb.emit(op.matmul(y, w))
    return bb.emit(op.sum(z * z))


CONVS = {
    "1x1": ((2, 5, 4, 8), (1, 1, 8, 6), 2, {}),
    "3x3, stride 2, padded": ((2, 7, 6, 8), (3, 3, 8, 5), 2, {"strides": 2, "padding": 1}),
    "dilated": ((1, 9, 9, 4), (3, 3, 4, 5), 2, {"dilation": 2, "padding": (1, 0, 2, 1)}),
    "depthwise": ((2, 6, 6, 8), (3, 3, 1, 8), 3, {"padding": 1, "groups": 8}),
    "grouped": ((2, 5, 5, 8), (3, 3, 4, 6), 2, {"groups": 2}),
}
PRODUCTS = {
    "linear": (linear, (2, 3, 8), (8, 5), 0),
    "read as its transpose": (transposed_linear, (2, 3, 8), (5, 8), 1),
    "used twice": (linear_twice, (2, 3, 8), (8, 8), 0),
}
CASES = {
    **{
        name: (lambda bb, x, w, window=window: conv(bb, x, w, **window), x, w, axis)
        for name, (x, w, axis, window) in CONVS.items()
    },
    **PRODUCTS,
}
CHANNELS = (1, 3)


def derived(name):
    build, x, w, axis = CASES[name]
    mod = SimplifyShapes()(DeriveBackward(["w"])(main_of(build, {"x": x, "w": w})))
    return mod, StoredSlice(axis, CHANNELS)


@pytest.mark.parametrize("name", CASES)
def test_the_slice_of_the_gradient_is_the_gradient_of_the_slice(name):
    before, chosen = derived(name)
    untouched = before.clone()
    after = SliceChannels({"w": chosen}, ["w"])(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises
    x, w, part = after["main"].params
    assert part.name == slice_name("w")
    assert static_shape(part)[chosen.axis] == len(CHANNELS)
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(static_shape(p)) for p in (x, w)]
    loss, whole = run(before, *values)
    sliced_loss, sliced = run(after, *values, np.zeros(static_shape(part)))
    assert sliced_loss == loss
    wanted = np.take(whole, CHANNELS, chosen.axis)
    assert sliced.shape == static_shape(part) == wanted.shape
    # The same sums; only the order of their terms may differ.
    np.testing.assert_allclose(sliced, wanted, rtol=1e-12, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("name", CASES)
def test_what_is_kept_of_the_input_is_the_slice_taken_in_the_forward_pass(name):
    before, chosen = derived(name)
    after = SliceChannels({"w": chosen}, ["w"])(before)
    bindings = [b for b in bindings_of(after["main"]) if isinstance(b.value, relax.Call)]
    products = ("relax.matmul", "pock.conv2d_weight_grad")
    taken = {b.var for b in bindings if is_call_to(b.value, "relax.take")}
    assert taken
    forward = next(
        t for t, b in enumerate(bindings) if is_call_to(b.value, "relax.nn.conv2d", products[0])
    )
    first_take = next(t for t, b in enumerate(bindings) if b.var in taken)
    assert first_take < forward
    # No product makes the whole gradient any more.
    shape = static_shape(after["main"].params[1])
    makes_it = [b for b in bindings[forward + 1 :] if is_call_to(b.value, *products)]
    assert all(static_shape(b.value) not in (shape, shape[::-1]) for b in makes_it)


@pytest.mark.parametrize("name", CONVS)
def test_it_is_the_slice_of_pytorchs_gradient(name):
    x_shape, w_shape, axis, window = CONVS[name]
    mod, chosen = derived(name)
    after = SliceChannels({"w": chosen}, ["w"])(mod)
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    part = np.zeros(static_shape(after["main"].params[2]))
    _, sliced = run(after, x, w, part)
    top, left, bottom, right = np.broadcast_to(
        window.get("padding", 0), (4,)
    )  # one number means all four
    weight = torch.tensor(w, requires_grad=True)
    pictures = F.pad(torch.tensor(x * x).permute(0, 3, 1, 2), (left, right, top, bottom))
    y = F.conv2d(
        pictures,
        weight.permute(3, 2, 0, 1),
        stride=window.get("strides", 1),
        dilation=window.get("dilation", 1),
        groups=window.get("groups", 1),
    )
    y.square().sum().backward()
    wanted = np.take(weight.grad.numpy(), CHANNELS, axis)
    np.testing.assert_allclose(sliced, wanted, rtol=1e-7, atol=1e-9)


def test_a_gradient_that_cannot_be_pushed_into_is_sliced_where_it_is():
    def build(bb, x, w):
        return bb.emit(op.sum(bb.emit(op.exp(bb.emit(w * x)))))

    mod = DeriveBackward(["w"])(main_of(build, {"x": (4, 6), "w": (4, 6)}))
    after = SliceChannels({"w": StoredSlice(1, CHANNELS)}, ["w"])(mod)
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    _, sliced = run(after, x, w, np.zeros((4, 2)))
    np.testing.assert_allclose(sliced, (np.exp(w * x) * x)[:, CHANNELS], rtol=1e-12)


def test_without_slices_nothing_changes():
    mod, _ = derived("1x1")
    after = SliceChannels({}, ["w"])(mod)
    tvm.ir.assert_structural_equal(after, mod)
    assert "take" not in operators(after)

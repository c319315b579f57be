"""InsertLora: y = x @ W + s · (x @ A) @ B wherever W is multiplied with."""

import numpy as np
import pytest
import torch
import tvm
from pass_checks import main_of, operators, random_arguments, run
from tvm import relax
from tvm.relax import op

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.insert_lora import Factors, InsertLora

RANK, SCALE = 2, 0.5
FACTORS = {"w": Factors("a", "b", SCALE)}


def linear(bb, x, w, a, b):
    return bb.emit(op.matmul(x, bb.emit(op.permute_dims(w, [1, 0]))))


def straight(bb, x, w, a, b):
    return bb.emit(op.matmul(x, w))


def conv(bb, x, w, a, b, **window):
    hwio = bb.emit(op.permute_dims(w, [2, 3, 1, 0]))
    return bb.emit(
        op.nn.conv2d(
            x, hwio, data_layout="NHWC", kernel_layout="HWIO", out_dtype="float64", **window
        )
    )


def strided(bb, x, w, a, b):
    return conv(bb, x, w, a, b, strides=(2, 3))


def shapes(x, w, inputs, outputs):
    return {"x": x, "w": w, "a": (inputs, RANK), "b": (RANK, outputs)}


def of_torch(x, w, delta, stride=(1, 1)):
    """The same layer with W + s · A @ B in PyTorch."""
    x, w, delta = map(torch.tensor, (x, w, delta))
    if w.ndim == 4:
        weight = w + delta.T[:, :, None, None]
        y = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, stride=stride)
        return y.permute(0, 2, 3, 1).numpy()
    return (x @ ((w.T if w.shape != delta.shape else w) + delta)).numpy()


CASES = {
    "linear": (linear, shapes((2, 3, 8), (5, 8), 8, 5), (1, 1)),
    "weight as [in, out]": (straight, shapes((2, 3, 8), (8, 5), 8, 5), (1, 1)),
    "1x1 convolution": (conv, shapes((2, 4, 4, 8), (5, 8, 1, 1), 8, 5), (1, 1)),
    "1x1 convolution with strides": (strided, shapes((2, 5, 7, 8), (5, 8, 1, 1), 8, 5), (2, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_layer_with_the_merged_weight(name):
    build, given, stride = CASES[name]
    before = main_of(build, given)
    untouched = before.clone()
    after = InsertLora(FACTORS)(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises
    x, w, a, b = random_arguments(before)
    (got,) = run(after, x, w, a, b)
    np.testing.assert_allclose(got, of_torch(x, w, SCALE * a @ b, stride), rtol=1e-12)


def test_the_factor_in_the_middle_is_scaled():
    """Of the three products' sizes that of the rank is the smallest."""
    after = InsertLora(FACTORS)(main_of(linear, CASES["linear"][1]))
    names = operators(after)
    assert names == ["permute_dims", "matmul", "multiply", "matmul", "matmul", "add"]


def test_other_weights_stay_as_they_are():
    def two(bb, x, w, a, b, other):
        y = bb.emit(op.matmul(x, other))
        return bb.emit(op.matmul(y, w))

    given = {**shapes((3, 4), (4, 4), 4, 4), "other": (4, 4)}
    assert operators(InsertLora(FACTORS)(main_of(two, given))).count("matmul") == 4


def test_what_is_no_product_is_refused():
    def scaled(bb, x, w, a, b):
        return bb.emit(op.multiply(x, w))

    def padded(bb, x, w, a, b):
        return conv(bb, x, w, a, b, padding=1)

    for build, given in (
        (scaled, shapes((4, 4), (4, 4), 4, 4)),
        (padded, CASES["1x1 convolution"][1]),
    ):
        with pytest.raises(UnsupportedModelError, match="LoRA on w: the model does not multiply"):
            InsertLora(FACTORS)(main_of(build, given))


def test_without_factors_nothing_changes():
    before = main_of(linear, CASES["linear"][1])
    tvm.ir.assert_structural_equal(InsertLora({})(before), before)

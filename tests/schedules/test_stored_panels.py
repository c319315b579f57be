"""A kernel that reads a weight as panels computes the same sums in the same order."""

import numpy as np
import pytest
from kernel_cases import fuse_kernel, run_on_one_and_two_threads
from tvm.relax import op as R

from pock_tvm.compilation.stored_panels import as_panels, panels_shape
from pock_tvm.relay_passes.operators.conv2d import Window, data_grad
from pock_tvm.relay_passes.operators.matmul import permuted_matmul
from pock_tvm.relay_passes.read_panels import read_panels
from pock_tvm.schedules.cpu.stored_panels import right_operand, wanted_panel_width
from pock_tvm.targets import get_target


def _random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def _check(func, inputs, position, width):
    inputs = [np.asarray(a) for a in inputs]
    expected, _ = run_on_one_and_two_threads(func, inputs)
    stored = list(inputs)
    stored[position] = as_panels(inputs[position], width)
    assert stored[position].shape == panels_shape(inputs[position].shape, width)
    rewritten = read_panels(func, position, width)
    one, two = run_on_one_and_two_threads(rewritten, stored)
    # Sums may be cut into other blocks: a rounding of the sum per block at most.
    products = inputs[position].size // inputs[position].shape[-1]
    limit = np.finfo(np.float32).eps * max(products, 8) * np.abs(expected[0]).max()
    np.testing.assert_allclose(one[0], expected[0], rtol=0, atol=limit)
    np.testing.assert_array_equal(one[0], two[0])


@pytest.mark.parametrize("rows", [1, 7, 49, 70, 300])
@pytest.mark.parametrize(("k", "n", "width"), [(70, 96, 32), (300, 64, 16), (513, 48, 8)])
def test_a_product_and_its_gradient(rows, k, n, width):
    x, w, bias, ct = _random(rows, k), _random(k, n), _random(n), _random(rows, n)
    _check(
        fuse_kernel(lambda a, b, c: R.add(R.matmul(a, b), c), x, w, bias), [x, w, bias], 1, width
    )
    gradient = fuse_kernel(lambda a, b: permuted_matmul(a, b, [0, 1], [1, 0]), ct, w)
    _check(gradient, [ct, w], 1, width)


@pytest.mark.parametrize(
    ("side", "c", "o", "kernel", "stride"),
    [(7, 40, 64, 1, 1), (7, 33, 64, 3, 1), (8, 24, 96, 3, 2), (14, 64, 32, 1, 2)],
)
def test_a_convolution_and_its_gradient(side, c, o, kernel, stride):
    pad = kernel // 2
    x, w = _random(2, side, side, c), _random(kernel, kernel, c, o)

    def forward(a, b):
        return R.nn.conv2d(
            a, b, strides=stride, padding=pad, data_layout="NHWC", kernel_layout="HWIO"
        )

    _check(fuse_kernel(lambda a, b: R.nn.relu(forward(a, b)), x, w), [x, w], 1, 16)
    out = (side + 2 * pad - kernel) // stride + 1
    ct, window = _random(2, out, out, o), Window((stride, stride), (pad,) * 4, (1, 1), 1)
    gradient = fuse_kernel(lambda a, b: data_grad(a, b, x.shape, window), ct, w)
    _check(gradient, [ct, w], 1, 16)


def _width(rows, k, n, target="x86-64-v4"):
    func = fuse_kernel(R.matmul, _random(rows, k), _random(k, n))
    spec = get_target(target)
    return wanted_panel_width(right_operand(func, 1, spec), spec)


def test_panels_are_wanted_where_packing_is_much_of_the_work():
    assert _width(128, 256, 96) == 32
    assert _width(128, 256, 96, "raspberry-pi-4") in (8, 16)
    assert _width(4, 256, 96) is None, "rows are read as they stand"
    assert _width(4096, 256, 96) is None, "packed once for all tasks"
    assert _width(128, 256, 100) is None, "100 columns make no whole panels"
    assert _width(128, 256, 32) is None, "one panel is what there is"


def test_what_is_no_right_operand_is_not_stored_in_panels():
    spec = get_target("x86-64-v4")
    func = fuse_kernel(R.matmul, _random(128, 256), _random(256, 96))
    assert right_operand(func, 1, spec)
    assert right_operand(func, 0, spec) is None
    assert right_operand(fuse_kernel(R.nn.relu, _random(8, 8)), 0, spec) is None
    gradient = fuse_kernel(
        lambda a, b: permuted_matmul(a, b, [0, 1], [1, 0]), _random(128, 96), _random(256, 96)
    )
    assert wanted_panel_width(right_operand(gradient, 1, spec), spec) is None

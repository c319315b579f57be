"""Every family of kernels as launches of a GPU, on whatever device OpenCL finds."""

import numpy as np
import pytest
from kernel_cases import fuse_kernel, run_kernel
from opencl_device import device_kernel, open_queue, run_launches, run_over_arena
from test_bit_masks import packed, selected
from test_conv2d import _conv2d, _setup
from test_fused_updates import _adamw, _adamw_kernel
from test_reduction import CASES as REDUCTIONS
from tvm import relax, te
from tvm.relax import op as R

from pock_tvm.relay_passes.operators.conv2d import data_grad, weight_grad
from pock_tvm.relay_passes.operators.row_update import row_update_kernel
from pock_tvm.relay_passes.operators.scatter_add import scatter_add_kernel
from pock_tvm.schedules import overwritable_inputs

UNIT = np.finfo("float32").eps


@pytest.fixture(scope="module")
def queue():
    return open_queue()


def _random(*shapes):
    rng = np.random.default_rng(7)
    return [rng.standard_normal(s).astype("float32") for s in shapes]


MUCH_THE_SAME = ("channel sum", "bias", "softmax", "softmax, heads", "pixels", "layer_norm_grad")


@pytest.mark.parametrize("case", [c for c in REDUCTIONS if c.name not in MUCH_THE_SAME], ids=str)
def test_reductions(case, queue):
    inputs = case.inputs()
    (got,) = run_launches(queue, fuse_kernel(case.build, *inputs), inputs)
    expected = case.expected(*(x.astype("float64") for x in inputs))
    # As on the processor: sums in slices, some ten roundings of the sum of magnitudes.
    scale = max(1.0, np.sqrt(np.prod(case.shapes[0]) / max(1, np.size(expected))))
    np.testing.assert_allclose(got, expected, rtol=16 * UNIT, atol=16 * UNIT * scale)


def test_an_epilogue_is_in_the_launch_of_its_matrix_product(queue):
    x, w, b = _random((10, 70), (70, 33), (33,))
    func = fuse_kernel(lambda x, w, b: R.nn.relu(R.matmul(x, w) + b), x, w, b)
    made = device_kernel(func)
    assert len(made.launches) == 1
    assert made.workspace_bytes == 0
    (got,) = run_launches(queue, func, [x, w, b])
    exact = np.maximum(x.astype("float64") @ w + b, 0)
    np.testing.assert_allclose(got, exact, rtol=0, atol=70 * UNIT * np.abs(exact).max())


@pytest.mark.parametrize("name", ["3x3 strided odd", "grouped strided", "dilated"])
def test_convolutions(name, queue):
    window, x, w, ct, y, x_bar, w_bar = _setup(name)
    kernels = (
        (fuse_kernel(lambda a, b: _conv2d(a, b, window), x, w), [x, w], y),
        (fuse_kernel(lambda a, b: data_grad(a, b, x.shape, window), ct, w), [ct, w], x_bar),
        (fuse_kernel(lambda a, b: weight_grad(a, b, w.shape, window), x, ct), [x, ct], w_bar),
    )
    for func, inputs, expected in kernels:
        (got,) = run_launches(queue, func, inputs)
        np.testing.assert_allclose(got, expected, rtol=0, atol=4e-6 * np.abs(expected).max())


def test_functions_have_the_precision_of_float32(queue):
    x = np.abs(*_random((5, 200)))  # no term cancels another
    func = fuse_kernel(lambda x: R.exp(x) + R.tanh(x) + R.erf(x) + R.sigmoid(x) + R.sqrt(x), x)
    (got,) = run_launches(queue, func, [x])
    (expected,) = run_kernel(func, [x])
    np.testing.assert_allclose(got, expected, rtol=16 * UNIT)


def test_an_odd_constant_keeps_its_bits(queue):
    third = np.float32(1 / 3)
    x = np.array([third, np.nextafter(third, np.float32(1))])
    func = fuse_kernel(lambda x: R.greater(x, relax.const(third)), x)
    (got,) = run_launches(queue, func, [x])
    assert got.tolist() == [False, True]


def test_bits_are_packed_and_read(queue):
    shape = (3, 5, 7, 13)
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 9, shape).astype("float32")
    (words,) = run_launches(queue, packed(shape), [x])
    np.testing.assert_array_equal(words, run_kernel(packed(shape), [x])[0])
    (got,) = run_launches(queue, selected(shape), [words, x, np.zeros((), "float32")])
    np.testing.assert_array_equal(got, np.where((x > 0) & (x < 6), x, 0))


def test_a_fold_of_two_values(queue):
    (x,) = _random((13, 21))
    func = fuse_kernel(lambda x: R.argmax(x, axis=1), x)
    np.testing.assert_array_equal(run_launches(queue, func, [x])[0], x.argmax(1))


def test_rows_are_added_in_their_order(queue):
    (ct,) = _random((1, 6, 9))
    indices = np.array([3, 0, 3, -1, 3, 40], "int64")
    func = scatter_add_kernel(1, 5, 9, 6, ["float32", "int64"])
    expected = np.zeros((1, 5, 9), "float32")
    for row, place in zip(ct[0], indices, strict=True):
        if 0 <= place < 5:
            expected[0, place] += row
    np.testing.assert_array_equal(run_launches(queue, func, [ct, indices])[0], expected)


def test_rows_are_updated_in_place(queue):
    w, ct = _random((5, 9), (3, 9))
    indices, rate = np.array([4, 1, 4], "int64"), np.array(0.5, "float32")
    func = row_update_kernel(5, 9, 3, ["float32", "int64"])
    expected = w.copy()
    for row, place in zip(ct, indices, strict=True):
        expected[place] -= rate * row
    table, *_ = run_over_arena(queue, func, [w, indices, ct, rate], {})
    np.testing.assert_allclose(table, expected, rtol=2 * UNIT, atol=UNIT)


def test_a_step_writes_over_what_it_reads(queue):
    w, m, v, x, ct = _random((45, 33), (45, 33), (45, 33), (45, 12), (12, 33))
    v = np.abs(v)
    numbers = [np.array(n, "float32") for n in (1e-2, 0.2, 0.003)]
    func = fuse_kernel(_adamw_kernel(R.matmul), x, ct, w, m, v, *numbers)
    got = run_launches(queue, func, [x, ct, w, m, v, *numbers], {8: 2, 9: 3, 10: 4})
    for one, wanted in zip(got, _adamw(w, m, v, x @ ct), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-5)


def test_a_result_may_take_the_memory_of_its_operand(queue):
    x, z, b = (te.placeholder(s, name=n) for n, s in (("x", (9, 31)), ("z", (9, 31)), ("b", (31,))))
    biased = te.compute((9, 31), lambda i, j: te.exp(x[i, j]) + b[j])
    y = te.compute((9, 31), lambda i, j: biased[i, j] * z[i, j] + biased[i, j])
    func = te.create_prim_func([x, z, b, y])
    assert overwritable_inputs(func) == (0, 1)
    values = _random((9, 31), (9, 31), (31,))
    (apart,) = run_launches(queue, func, values)
    (together,) = run_launches(queue, func, values, {3: 0})
    np.testing.assert_array_equal(apart, together)

"""Products in bfloat16: 8 bits of significand, so each operand is off by 2⁻⁹ of itself at most."""

import dataclasses

import numpy as np
import pytest
from kernel_cases import (
    assembly,
    compile_kernel,
    count,
    fuse_kernel,
    run_built,
    run_on_one_and_two_threads,
)
from tvm import te, tirx
from tvm.relax import op as R

from pock_tvm.errors import PrecisionError
from pock_tvm.relay_passes.operators.matmul import matmul, permuted_matmul
from pock_tvm.targets import get_target
from pock_tvm.targets.precision import with_precision

UNIT = 2.0**-9
SUM_UNIT = 2.0**-23
"""Of a partial sum, for a product added to it: two roundings."""


@pytest.fixture(scope="module")
def bf16():
    try:
        return with_precision(get_target("host"), "bf16")
    except PrecisionError:
        pytest.skip("needs a processor with AVX512_BF16")


def x86_bf16():
    plain = get_target("x86-64-v4")
    options = {**plain.tvm_options, "mattr": ["+avx512bf16"]}
    return with_precision(dataclasses.replace(plain, tvm_options=options), "bf16")


def rounded(x):
    """Round to bfloat16, ties to even."""
    bits = x.astype("float32").view("uint32")
    bits = bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000
    return bits.view("float32").astype("float64")


def operands(form, m, n, k, batch=()):
    rng = np.random.default_rng(m * 7919 + n * 31 + k)
    a = rng.standard_normal((*batch, *((k, m) if form[0] == "T" else (m, k)))).astype("float32")
    b = rng.standard_normal((*batch, *((n, k) if form[1] == "T" else (k, n)))).astype("float32")
    return a, b


def axes(form, rank=2):
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    return [swapped if c == "T" else list(range(rank)) for c in form]


def plain(form, a, b):
    a, b = a.astype("float64"), b.astype("float64")
    return (
        a.swapaxes(-1, -2) if form[0] == "T" else a,
        b.swapaxes(-1, -2) if form[1] == "T" else b,
    )


def check(got, a, b):
    """Bound every element by the roundings of its own sum: of both operands, and of the sum."""
    size = np.abs(a) @ np.abs(b)
    summed = a.shape[-1] * SUM_UNIT * (1 + UNIT) ** 2 * size
    assert (np.abs(got - a @ b) <= (2 * UNIT + UNIT**2) * size + summed).all()
    assert (np.abs(got - rounded(a) @ rounded(b)) <= summed).all()


def run(func, inputs, spec):
    return run_built(compile_kernel(func, spec), func, inputs)


@pytest.mark.parametrize("form", ["NN", "NT", "TN", "TT"])
@pytest.mark.parametrize(
    "m,n,k",
    [(128, 96, 64), (37, 53, 45), (64, 33, 32), (50, 130, 700), (33, 48, 2049), (200, 1000, 40)],
)
def test_matrix_product(form, m, n, k, bf16):
    a, b = operands(form, m, n, k)
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, *axes(form)), a, b)
    (got,) = run(func, [a, b], bf16)
    check(got, *plain(form, a, b))


@pytest.mark.parametrize("form", ["NN", "NT", "TN", "TT"])
def test_batched_product(form, bf16):
    a, b = operands(form, 40, 72, 50, (2, 3))
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, *axes(form, 4)), a, b)
    (got,) = run(func, [a, b], bf16)
    check(got, *plain(form, a, b))


def test_rows_of_several_samples_share_a_weight(bf16):
    a, b = operands("NN", 19, 1, 64, (4,))[0], operands("NN", 1, 48, 64)[1]
    func = fuse_kernel(lambda x, y: R.matmul(x, y), a, b)
    (got,) = run(func, [a, b], bf16)
    check(got.reshape(76, 48), *plain("NN", a.reshape(76, 64), b))


def test_a_1x1_convolution(bf16):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 7, 9, 64)).astype("float32")
    w = rng.standard_normal((1, 1, 64, 48)).astype("float32")
    layouts = {"data_layout": "NHWC", "kernel_layout": "HWIO"}
    func = fuse_kernel(lambda a, b: R.nn.conv2d(a, b, **layouts), x, w)
    assert count("vdpbf16ps", assembly(func, bf16))
    (got,) = run(func, [x, w], bf16)
    check(got.reshape(126, 48), *plain("NN", x.reshape(126, 64), w[0, 0]))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_masked_operand_is_rounded_after_the_mask(transposed, bf16):
    shape = (64, 70) if transposed else (70, 64)
    x, mask = te.placeholder(shape, name="x"), te.placeholder(shape, name="mask")
    y = te.placeholder((64, 48), name="y")
    masked = te.compute(shape, lambda i, j: x[i, j] * mask[i, j], name="masked")
    z = matmul(masked, y, [1, 0] if transposed else [0, 1], [0, 1])
    r = te.compute((70, 48), lambda i, j: tirx.max(z[i, j], tirx.const(0.0)), name="relu")
    func = te.create_prim_func([x, y, mask, z, r])
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(s).astype("float32") for s in (shape, (64, 48), shape))
    got, kept = run(func, [a, b, c], bf16)
    check(got, *plain("TN" if transposed else "NN", a * c, b))
    np.testing.assert_array_equal(kept, np.maximum(got, 0))


@pytest.mark.parametrize("form", ["NN", "TN"])
def test_threads_do_not_change_the_result(form, bf16):
    a, b = operands(form, 200, 768, 1000)
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, *axes(form)), a, b)
    (one,), (two,) = run_on_one_and_two_threads(func, [a, b], bf16)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("form", ["NN", "NT", "TN", "TT"])
@pytest.mark.parametrize(
    "spec,product,rounds",
    [
        (x86_bf16, r"vdpbf16ps\s.*zmm", r"vcvtne2ps2bf16"),
        (lambda: with_precision(get_target("apple-m2"), "bf16"), r"\bbfdot", r"\bbfcvtn"),
    ],
)
def test_instructions(form, spec, product, rounds):
    a, b = operands(form, 64, 96, 64)
    text = assembly(fuse_kernel(lambda x, y: permuted_matmul(x, y, *axes(form)), a, b), spec())
    assert count(product, text) >= 12
    assert count(rounds, text) >= 2
    assert count(r"vfmadd|\bfmla", text) == 0


@pytest.mark.parametrize("m,n,k", [(8, 96, 64), (64, 10, 64), (64, 96, 16)])
def test_what_packing_does_not_pay_for_stays_as_it_was(m, n, k):
    a, b = operands("NN", m, n, k)
    func = fuse_kernel(lambda x, y: R.matmul(x, y), a, b)
    assert assembly(func, x86_bf16()) == assembly(
        func, dataclasses.replace(x86_bf16(), precision="fp32")
    )


def test_float64_stays_as_it_was():
    a, b = (x.astype("float64") for x in operands("NN", 64, 96, 64))
    text = assembly(fuse_kernel(lambda x, y: R.matmul(x, y), a, b), x86_bf16())
    assert count("vdpbf16ps", text) == 0

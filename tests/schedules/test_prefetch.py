"""Kernels that ask for memory ahead of time compute what they did without; on any core."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kernel_cases import assembly, count, fuse_kernel, run_on_one_and_two_threads
from tvm.relax import op as R

from pock_tvm.relay_passes.operators.conv2d import Window, data_grad
from pock_tvm.relay_passes.operators.matmul import permuted_matmul
from pock_tvm.schedules.cpu.tiles import CORES, core_of
from pock_tvm.targets import get_target

EPS = np.finfo(np.float32).eps


@pytest.fixture(autouse=True)
def _asks_early(monkeypatch):
    """Let this machine's core ask ahead of time, for panels of 32 KiB already."""
    spec = get_target("host")
    core = replace(core_of(spec), level_2_bytes=1 << 16, prefetches=True)
    monkeypatch.setitem(CORES, spec.core, core)


def _prefetches(func):
    return count("prefetch|prfm", assembly(func, "host"))


def _random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def _check(func, inputs, expected, products):
    """Off by at most ε for each product in a row, of a sum of about √products."""
    (one,), (two,) = run_on_one_and_two_threads(func, inputs)
    np.testing.assert_allclose(one, expected, rtol=0, atol=2 * EPS * (products + 8))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("form", ["NN", "NT", "TN", "TT"])
@pytest.mark.parametrize("m,n,k", [(70, 100, 700), (128, 96, 300), (64, 110, 256)])
def test_the_next_panel_of_a_product(form, m, n, k):
    a = _random(*((k, m) if form[0] == "T" else (m, k)))
    b = _random(*((n, k) if form[1] == "T" else (k, n)))
    axes = [[1, 0] if c == "T" else [0, 1] for c in form]
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, *axes), a, b)
    assert _prefetches(func)
    x, y = a.astype("float64").transpose(axes[0]), b.astype("float64").transpose(axes[1])
    _check(func, [a, b], x @ y, k)


@pytest.mark.parametrize(
    "n,side,c,o,kernel,stride",
    [
        (1, 14, 48, 200, 3, 1),
        (2, 9, 140, 150, 3, 1),
        (1, 12, 33, 100, 3, 2),
        (1, 7, 300, 270, 1, 1),
    ],
)
@pytest.mark.parametrize("gradient", [False, True])
def test_the_next_panel_of_a_convolution(n, side, c, o, kernel, stride, gradient):
    pad = kernel // 2
    x, w = _random(n, side, side, c), _random(kernel, kernel, c, o)
    xt = torch.from_numpy(x).double().permute(0, 3, 1, 2).requires_grad_()
    wt = torch.from_numpy(w).double().permute(3, 2, 0, 1)
    yt = torch.nn.functional.conv2d(xt, wt, None, stride, pad)
    ct = _random(*yt.permute(0, 2, 3, 1).shape)
    yt.backward(torch.from_numpy(ct).double().permute(0, 3, 1, 2))
    if gradient:
        window = Window((stride, stride), (pad,) * 4, (1, 1), 1)
        func = fuse_kernel(lambda a, b: data_grad(a, b, x.shape, window), ct, w)
        inputs, expected = [ct, w], xt.grad
    else:
        func = fuse_kernel(
            lambda a, b: R.nn.conv2d(
                a, b, strides=stride, padding=pad, data_layout="NHWC", kernel_layout="HWIO"
            ),
            x,
            w,
        )
        inputs, expected = [x, w], yt.detach()
    products = kernel * kernel * (o if gradient else c)
    if stride == 1:  # the phases of a strided gradient are sums too short to wait for
        assert _prefetches(func)
    _check(func, inputs, expected.permute(0, 2, 3, 1).numpy(), products)


@pytest.mark.parametrize("m,n,k", [(130, 150, 40), (200, 96, 300)])
def test_the_weight_that_is_updated(m, n, k):
    a, b, w = _random(k, m), _random(k, n), _random(m, n)
    rate = np.asarray(np.float32(0.25))

    def update(x, y, lr, z):
        return R.subtract(z, R.multiply(lr, permuted_matmul(x, y, [1, 0], [0, 1])))

    func = fuse_kernel(update, a, b, rate, w)
    assert _prefetches(func) >= 2, "what is read and what is written"
    _check(func, [a, b, rate, w], w - 0.25 * (a.astype("float64").T @ b), k)


def test_nothing_is_asked_for_where_the_core_gains_nothing(monkeypatch):
    spec = get_target("host")
    monkeypatch.setitem(CORES, spec.core, replace(core_of(spec), prefetches=False))
    a, b = _random(128, 300), _random(300, 96)
    assert not _prefetches(fuse_kernel(R.matmul, a, b))

"""Convolution by tiles, within the bound that follows from its arithmetic."""

import numpy as np
import pytest
import torch
from kernel_cases import fuse_kernel, run_kernel
from tvm.relax.op import add, nn

from pock_tvm.relay_passes.operators.minimal_filtering import filtering, transform_weight
from pock_tvm.relay_passes.operators.winograd import winograd_conv2d
from pock_tvm.schedules.cpu.winograd import winograd
from pock_tvm.targets import get_target

# batch, height, width, in, out, padding
CASES = {
    "even": (1, 8, 8, 16, 32, 1),
    "ragged": (2, 9, 11, 32, 48, 1),
    "smaller than a tile": (1, 3, 2, 16, 16, 1),
    "no padding": (1, 12, 7, 16, 64, 0),
    "wide padding": (1, 6, 5, 16, 16, 2),
    "many tiles": (1, 56, 56, 64, 64, 1),
    "many channels": (1, 7, 7, 256, 512, 1),
    "several pictures": (3, 14, 14, 80, 112, 1),
}
UNIT = 2.0**-24


def gamma(roundings):
    """What many roundings behind each other make of a number, relative to it (Higham 2002, 3.1)."""
    return roundings * UNIT / (1 - roundings * UNIT)


def convolved(x, weight, padding):
    """Return the convolution and a function for its data gradient, in float64."""
    x = torch.from_numpy(x).double().permute(0, 3, 1, 2).requires_grad_()
    weight = torch.from_numpy(weight).double().permute(3, 2, 0, 1)
    y = torch.nn.functional.conv2d(x, weight, None, 1, padding)

    def gradient(ct):
        (x_bar,) = torch.autograd.grad(y, x, torch.from_numpy(ct).double().permute(0, 3, 1, 2))
        return x_bar.permute(0, 2, 3, 1).numpy()

    return y.detach().permute(0, 2, 3, 1).numpy(), gradient


def bound(x, weight, m, shape, before, *, gradient=False):
    """Bound the error of each output.

    By running error analysis |Aᵀ| (Σₖ |G g Gᵀ| ∘ (|Bᵀ| |d| |B|)) |A| is what roundings are relative
    to. A transform rounds a number as often as a row has terms, once for its factor, and once where
    rows share a sum; there are two for each side. The weight is rounded once, a sum of products
    once for each.
    """
    f = filtering(m, gradient=gradient)
    side, depth = m + 2, x.shape[3]
    g = np.asarray(filtering(m).kernel)
    u = np.abs(np.einsum("ap,bq,pqio->abio", g, g, weight.astype("float64")))
    if gradient:
        u = u.swapaxes(2, 3)
    down, across = (-(-e // m) for e in shape[1:3])
    whole = np.zeros((shape[0], down * m + 2, across * m + 2, depth))
    inside = whole[:, before : before + x.shape[1], before : before + x.shape[2]]
    inside[:] = np.abs(x[:, : inside.shape[1], : inside.shape[2]])
    a, b = np.abs(f.inverse), np.abs(f.data)
    out = np.empty((shape[0], down * m, across * m, shape[3]))
    for i in range(down):
        for j in range(across):
            tile = whole[:, i * m : i * m + side, j * m : j * m + side]
            v = np.einsum("ai,bj,nijk->nabk", b, b, tile)
            total = np.einsum("nabk,abko->nabo", v, u)
            square = np.einsum("pa,qb,nabo->npqo", a, a, total)
            out[:, i * m : i * m + m, j * m : j * m + m] = square
    roundings = 4 * (side + 2) + depth + 1
    return gamma(roundings) * out[:, : shape[1], : shape[2]]


def drawn(name):
    n, h, w, c, o, padding = CASES[name]
    rng = np.random.default_rng(len(name))
    x = rng.standard_normal((n, h, w, c)).astype("float32")
    return x, rng.standard_normal((3, 3, c, o)).astype("float32"), padding


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_forward(name, m):
    x, w, padding = drawn(name)
    y, _ = convolved(x, w, padding)
    u = transform_weight(w, m, 16)
    func = fuse_kernel(lambda a, b: winograd_conv2d(a, b, y.shape, (padding, padding)), x, u)
    assert winograd(func, get_target("host")) is not None
    (got,) = run_kernel(func, [x, u])
    assert (np.abs(got - y) <= bound(x, w, m, y.shape, padding)).all()


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_data_gradient(name, m):
    x, w, padding = drawn(name)
    y, gradient = convolved(x, w, padding)
    ct = np.random.default_rng(1).standard_normal(y.shape).astype("float32")
    u = transform_weight(w, m, 16)

    def build(a, b):
        return winograd_conv2d(a, b, x.shape, (2 - padding, 2 - padding), gradient=True)

    func = fuse_kernel(build, ct, u)
    assert winograd(func, get_target("host")) is not None
    (got,) = run_kernel(func, [ct, u])
    limit = bound(ct, w, m, x.shape, 2 - padding, gradient=True)
    assert (np.abs(got - gradient(ct)) <= limit).all()


@pytest.mark.parametrize("m", [2, 4])
def test_what_follows_joins_the_kernel(m):
    x, w, padding = drawn("ragged")
    y, _ = convolved(x, w, padding)
    rng = np.random.default_rng(2)
    bias = rng.standard_normal(y.shape[3]).astype("float32")
    skip = rng.standard_normal(y.shape).astype("float32")
    u = transform_weight(w, m, 48)

    def build(a, b, c, d):
        out = winograd_conv2d(a, b, y.shape, (padding, padding))
        return nn.relu(add(add(out, c), d))

    func = fuse_kernel(build, x, u, bias, skip)
    assert winograd(func, get_target("host")) is not None
    (got,) = run_kernel(func, [x, u, bias, skip])
    exact = y + bias + skip
    limit = bound(x, w, m, y.shape, padding) * (1 + gamma(2)) + gamma(2) * (
        np.abs(y) + np.abs(bias) + np.abs(skip)
    )
    assert (np.abs(got - np.maximum(exact, 0)) <= limit).all()


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("m", [2, 4])
def test_matrices_convolve_exactly(m, gradient):
    f, g = filtering(m, gradient=gradient), np.asarray(filtering(m).kernel)
    rng = np.random.default_rng(0)
    taps, pixels = rng.standard_normal((3, 3)), rng.standard_normal((m + 2, m + 2))
    a, b = np.asarray(f.inverse), np.asarray(f.data)
    got = a @ ((g @ taps @ g.T) * (b @ pixels @ b.T)) @ a.T
    turned = taps[::-1, ::-1] if gradient else taps
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3))
    np.testing.assert_allclose(got, (windows * turned).sum((2, 3)), rtol=0, atol=1e-12)

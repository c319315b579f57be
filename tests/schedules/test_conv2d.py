import numpy as np
import pytest
import torch
from kernel_cases import assembly, count, fuse_kernel, run_kernel
from tvm.relax import op as R

from pock_tvm.relay_passes.operators.conv2d import Window, data_grad, weight_grad
from pock_tvm.schedules.cpu.gemm import gemm
from pock_tvm.targets import get_target

# batch, height, width, in, out, kernel, stride, padding, dilation, groups
CASES = {
    "1x1": (1, 14, 14, 24, 40, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1x1 odd": (2, 7, 5, 3, 17, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1x1 strided": (1, 9, 9, 16, 24, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "3x3": (1, 14, 14, 16, 32, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "3x3 odd": (2, 9, 11, 5, 13, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "stem": (1, 20, 20, 3, 32, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "3x3 strided odd": (2, 10, 7, 8, 12, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "strides differ": (1, 12, 13, 4, 8, (3, 2), (3, 2), (1, 0), (1, 1), 1),
    "dilated": (1, 12, 12, 8, 16, (3, 3), (1, 1), (2, 2), (2, 2), 1),
    "dilated strided": (1, 13, 13, 8, 16, (3, 3), (2, 2), (2, 2), (2, 2), 1),
    "no padding": (1, 12, 12, 8, 16, (5, 5), (1, 1), (0, 0), (1, 1), 1),
    "grouped": (2, 8, 8, 12, 24, (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "grouped strided": (1, 8, 8, 32, 32, (3, 3), (2, 2), (1, 1), (1, 1), 4),
    "patches": (1, 32, 32, 3, 48, (8, 8), (8, 8), (0, 0), (1, 1), 1),
}


def _setup(name):
    n, h, w, c, o, kernel, stride, pad, dilation, groups = CASES[name]
    window = Window(stride, (*pad, *pad), dilation, groups)
    rng = np.random.default_rng(len(name))
    x = rng.standard_normal((n, h, w, c)).astype("float32")
    weight = rng.standard_normal((*kernel, c // groups, o)).astype("float32")
    xt = torch.from_numpy(x).double().permute(0, 3, 1, 2).requires_grad_()
    wt = torch.from_numpy(weight).double().permute(3, 2, 0, 1).requires_grad_()
    yt = torch.nn.functional.conv2d(xt, wt, None, stride, pad, dilation, groups)
    ct = rng.standard_normal(tuple(yt.permute(0, 2, 3, 1).shape)).astype("float32")
    yt.backward(torch.from_numpy(ct).double().permute(0, 3, 1, 2))
    y = yt.detach().permute(0, 2, 3, 1).numpy()
    x_bar, w_bar = xt.grad.permute(0, 2, 3, 1).numpy(), wt.grad.permute(2, 3, 1, 0).numpy()
    return window, x, weight, ct, y, x_bar, w_bar


def _conv2d(x, w, window):
    return R.nn.conv2d(
        x,
        w,
        strides=window.strides,
        padding=window.padding,
        dilation=window.dilation,
        groups=window.groups,
        data_layout="NHWC",
        kernel_layout="HWIO",
    )


def _close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_forward(name):
    window, x, w, _, y, _, _ = _setup(name)
    func = fuse_kernel(lambda a, b: _conv2d(a, b, window), x, w)
    assert gemm(func, get_target("host")) is not None
    _close(run_kernel(func, [x, w])[0], y)


@pytest.mark.parametrize("name", CASES)
def test_data_gradient(name):
    window, x, w, ct, _, x_bar, _ = _setup(name)
    func = fuse_kernel(lambda a, b: data_grad(a, b, x.shape, window), ct, w)
    assert gemm(func, get_target("host")) is not None
    _close(run_kernel(func, [ct, w])[0], x_bar)


@pytest.mark.parametrize("name", CASES)
def test_weight_gradient(name):
    window, x, w, ct, _, _, w_bar = _setup(name)
    func = fuse_kernel(lambda a, b: weight_grad(a, b, w.shape, window), x, ct)
    assert gemm(func, get_target("host")) is not None
    _close(run_kernel(func, [x, ct])[0], w_bar)


@pytest.mark.parametrize("name", ["1x1", "3x3 odd", "grouped"])
def test_batch_norm_residual_and_relu6_are_the_epilogue(name):
    window, x, w, _, y, _, _ = _setup(name)
    rng = np.random.default_rng(1)
    scale, shift = (rng.standard_normal(y.shape[-1:]).astype("float32") for _ in range(2))
    skip = rng.standard_normal(y.shape).astype("float32")

    def build(a, b, s, t, r):
        return R.clip(R.add(R.add(R.multiply(_conv2d(a, b, window), s), t), r), 0, 6)

    func = fuse_kernel(build, x, w, scale, shift, skip)
    got = run_kernel(func, [x, w, scale, shift, skip])[0]
    _close(got, np.clip(y * scale + shift + skip, 0, 6))


@pytest.mark.parametrize("name", ["1x1", "3x3", "stem", "grouped"])
def test_sgd_update_is_the_epilogue_of_the_weight_gradient(name):
    window, x, w, ct, _, _, w_bar = _setup(name)
    rate = np.asarray(np.float32(0.5))

    def build(a, b, lr, c):
        return R.subtract(c, R.multiply(lr, weight_grad(a, b, w.shape, window)))

    func = fuse_kernel(build, x, ct, rate, w)
    _close(run_kernel(func, [x, ct, rate, w])[0], w - 0.5 * w_bar)


@pytest.mark.parametrize("name", ["1x1", "3x3", "stem"])
@pytest.mark.parametrize(
    "spec,fma", [("x86-64-v4", r"vfmadd\w+ps\s.*[yz]mm"), ("raspberry-pi-4", r"fmla\s+v\d+\.4s")]
)
def test_instructions(name, spec, fma):
    window, x, w, ct, *_ = _setup(name)
    for func in (
        fuse_kernel(lambda a, b: _conv2d(a, b, window), x, w),
        fuse_kernel(lambda a, b: weight_grad(a, b, w.shape, window), x, ct),
    ):
        assert count(fma, assembly(func, spec)) >= 12

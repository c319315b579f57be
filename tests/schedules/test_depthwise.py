"""Depthwise convolution and its gradients: values against PyTorch, instructions, threads."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from kernel_cases import assembly, count, fuse_kernel, run_kernel, run_on_one_and_two_threads
from tvm import relax

from pock_tvm.relay_passes.operators.conv2d import Window, data_grad, weight_grad
from pock_tvm.schedules import rules_for
from pock_tvm.targets import get_target


@dataclass(frozen=True)
class Case:
    height: int
    width: int
    channels: int
    stride: int = 1
    kernel: int = 3
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilation: int = 1
    batch: int = 1
    dtype: str = "float32"

    @property
    def window(self):
        strides, dilation = (self.stride,) * 2, (self.dilation,) * 2
        return Window(strides, self.padding, dilation, self.channels)

    def arrays(self):
        rng = np.random.default_rng(7)
        x = rng.standard_normal((self.batch, self.height, self.width, self.channels))
        w = rng.standard_normal((self.kernel, self.kernel, 1, self.channels))
        return x.astype(self.dtype), w.astype(self.dtype)


CASES = [
    Case(14, 14, 32),
    Case(14, 14, 32, stride=2),
    Case(15, 13, 20, stride=2),
    Case(9, 11, 3),
    Case(12, 10, 24, kernel=5, padding=(2, 2, 2, 2)),
    Case(12, 11, 16, kernel=5, stride=2, padding=(2, 2, 2, 2), batch=2),
    Case(13, 12, 17, dilation=2, padding=(2, 2, 2, 2)),
    Case(11, 12, 16, stride=2, dilation=2, padding=(2, 2, 2, 2)),
    Case(12, 12, 16, stride=2, padding=(0, 0, 1, 1)),
    Case(8, 9, 40, padding=(0, 0, 0, 0), stride=3),
    Case(3, 2, 16, padding=(1, 1, 1, 1)),
    Case(7, 7, 160, batch=3),
    Case(10, 9, 18, stride=2, dtype="float64"),
]


def torch_conv(case, x, w):
    top, left, bottom, right = case.padding
    padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    y = torch.nn.functional.conv2d(
        padded,
        w.permute(3, 2, 0, 1),
        stride=case.stride,
        dilation=case.dilation,
        groups=case.channels,
    )
    return y.permute(0, 2, 3, 1)


def reference(case):
    x, w = (torch.tensor(a, requires_grad=True) for a in case.arrays())
    y = torch_conv(case, x, w)
    ct = torch.tensor(np.random.default_rng(3).standard_normal(y.shape).astype(case.dtype))
    y.backward(ct)
    return y.detach().numpy(), ct.numpy(), x.grad.numpy(), w.grad.numpy()


def conv2d(case):
    w = case.window
    return lambda x, k: relax.op.nn.conv2d(
        x,
        k,
        strides=w.strides,
        padding=w.padding,
        dilation=w.dilation,
        groups=w.groups,
        data_layout="NHWC",
        kernel_layout="HWIO",
    )


def rule_of(func):
    host = get_target("host")
    return next(r.__name__ for r in rules_for(host) if r(func, host) is not None)


def tolerance(case):
    # A sum of n products of unit normals rounds by about √n · 2⁻²⁴ (2⁻⁵³); weight sums have ~200.
    return {"rtol": 0, "atol": 2e-5 if case.dtype == "float32" else 1e-13}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_with_epilogue(case):
    x, w = case.arrays()
    scale = np.random.default_rng(1).standard_normal(case.channels).astype(case.dtype)

    def build(x, w, s):
        centred = relax.op.subtract(conv2d(case)(x, w), s)
        return relax.op.nn.relu6(relax.op.add(relax.op.multiply(centred, s), s))

    func = fuse_kernel(build, x, w, scale)
    assert rule_of(func) == "depthwise"
    (y,) = run_kernel(func, [x, w, scale])
    expected = np.clip((reference(case)[0] - scale) * scale + scale, 0, 6)
    np.testing.assert_allclose(y, expected, **tolerance(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_data_gradient(case):
    x, w = case.arrays()
    _, ct, expected, _ = reference(case)
    func = fuse_kernel(lambda ct, w: data_grad(ct, w, x.shape, case.window), ct, w)
    assert rule_of(func) == "depthwise"
    (grad,) = run_kernel(func, [ct, w])
    np.testing.assert_allclose(grad, expected, **tolerance(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weight_gradient(case):
    x, w = case.arrays()
    _, ct, _, expected = reference(case)
    func = fuse_kernel(lambda x, ct: weight_grad(x, ct, w.shape, case.window), x, ct)
    assert rule_of(func) == "depthwise_weight_grad"
    (grad,) = run_kernel(func, [x, ct])
    np.testing.assert_allclose(grad, expected, **tolerance(case))


def test_weight_gradient_with_update():
    case = CASES[0]
    x, w = case.arrays()
    _, ct, _, grad = reference(case)

    def step(x, ct, w):
        scaled = relax.op.multiply(
            weight_grad(x, ct, w.ty.shape.values, case.window), relax.const(0.125)
        )
        return relax.op.subtract(w, scaled)

    func = fuse_kernel(step, x, ct, w)
    assert rule_of(func) == "depthwise_weight_grad"
    (updated,) = run_kernel(func, [x, ct, w])
    np.testing.assert_allclose(updated, w - 0.125 * grad, **tolerance(case))


def kernels(case):
    x, w = case.arrays()
    ct = reference(case)[1]
    return [
        (fuse_kernel(conv2d(case), x, w), [x, w]),
        (fuse_kernel(lambda c, w: data_grad(c, w, x.shape, case.window), ct, w), [ct, w]),
        (fuse_kernel(lambda x, c: weight_grad(x, c, w.shape, case.window), x, ct), [x, ct]),
    ]


@pytest.mark.parametrize("stride", [1, 2])
def test_multiply_adds_are_vectors(stride):
    for func, _ in kernels(Case(14, 14, 32, stride=stride)):
        assert count(r"vfmadd\d+ps.*zmm", assembly(func, "x86-64-v4")) > 9
        pi = assembly(func, "raspberry-pi-4")
        assert count(r"fmla\s+v\d+\.4s", pi) > 9
        assert count(r"fmadd\s+s", pi) == 0


def test_threads_do_not_change_values():
    for func, inputs in kernels(Case(28, 28, 48, batch=2)):
        one, two = run_on_one_and_two_threads(func, inputs)
        np.testing.assert_array_equal(one[0], two[0])

"""Reductions, row sweeps and kernels of several outputs: values, instructions, threads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.special
from kernel_cases import assembly, count, fuse_kernel, run_kernel, run_on_one_and_two_threads
from tvm import relax, te

from pock_tvm.optimizers import AdamW
from pock_tvm.relay_passes.operators.cross_entropy import cross_entropy
from pock_tvm.relay_passes.operators.norm_grad import (
    layer_norm_grad,
    layer_norm_scale_grad,
    rms_norm_grad,
    rms_norm_scale_grad,
)
from pock_tvm.relay_passes.operators.optimizer_steps.adam import adamw_step
from pock_tvm.schedules import rules_for
from pock_tvm.targets import get_target

R = relax.op


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[..., Any]
    expected: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]

    def inputs(self, dtype="float32"):
        rng = np.random.default_rng(11)
        return [rng.standard_normal(s).astype(dtype) for s in self.shapes]

    def __str__(self):
        return self.name


def _standardised(x):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


def _standardised_bar(x, g):
    """Jacobian of ``_standardised`` at x, transposed, times g."""
    normed, size = _standardised(x), np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (g - g.mean(-1, keepdims=True) - normed * (g * normed).mean(-1, keepdims=True)) / size


def _size(x):
    return np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def _scaled_bar(x, g):
    normed = x / _size(x)
    return (g - normed * (g * normed).mean(-1, keepdims=True)) / _size(x)


def _layer_norm(x, g, b):
    return R.nn.layer_norm(x, g, b, axes=[-1])


CASES = [
    # Over the leading axes.
    Case("bias", lambda x: R.sum(x, axis=[0]), lambda x: x.sum(0), ((3001, 100),)),
    Case(
        "channel sum",
        lambda x, m, c: R.sum(c * (x - m), axis=[0, 1, 2]),
        lambda x, m, c: (c * (x - m)).sum((0, 1, 2)),
        ((2, 29, 28, 35), (35,), (2, 29, 28, 35)),
    ),
    Case(
        "channel sum, small",
        lambda x, m, c: R.sum(c * (x - m), axis=[0, 1, 2]),
        lambda x, m, c: (c * (x - m)).sum((0, 1, 2)),
        ((1, 5, 7, 3), (3,), (1, 5, 7, 3)),
    ),
    Case("pixels", lambda x: R.mean(x, axis=[1, 2]), lambda x: x.mean((1, 2)), ((3, 7, 7, 130),)),
    Case("largest", lambda x: R.max(x, axis=[0]), lambda x: x.max(0), ((41, 20),)),
    Case("middle axis", lambda x: R.sum(x, axis=[1]), lambda x: x.sum(1), ((5, 30, 18),)),
    # Over the last axes.
    Case("rows", lambda x: R.sum(x, axis=[-1]), lambda x: x.sum(-1), ((33, 1000),)),
    Case(
        "rows of products",
        lambda x, y: R.sum(x * y, axis=-1, keepdims=True),
        lambda x, y: (x * y).sum(-1, keepdims=True),
        ((4, 9, 67), (4, 9, 67)),
    ),
    Case("two axes", lambda x: R.max(x, axis=[2, 3]), lambda x: x.max((2, 3)), ((2, 5, 6, 19),)),
    Case("softmax", R.nn.softmax, lambda x: scipy.special.softmax(x, -1), ((37, 129),)),
    Case("softmax, short", R.nn.softmax, lambda x: scipy.special.softmax(x, -1), ((50, 10),)),
    Case("softmax, heads", R.nn.softmax, lambda x: scipy.special.softmax(x, -1), ((2, 3, 17, 48),)),
    Case("softmax, long", R.nn.softmax, lambda x: scipy.special.softmax(x, -1), ((2, 30001),)),
    Case(
        "softmax, axis 1",
        lambda x: R.nn.softmax(x, axis=1),
        lambda x: scipy.special.softmax(x, 1),
        ((3, 12, 20),),
    ),
    Case("log_softmax", R.nn.log_softmax, lambda x: scipy.special.log_softmax(x, -1), ((9, 100),)),
    Case(
        "layer_norm",
        _layer_norm,
        lambda x, g, b: _standardised(x) * g + b,
        ((6, 5, 77), (77,), (77,)),
    ),
    Case(
        "layer_norm_grad",
        lambda x, c, g: layer_norm_grad(x, c, g, [2], 1e-5),
        lambda x, c, g: _standardised_bar(x, c * g),
        ((6, 5, 77), (6, 5, 77), (77,)),
    ),
    Case(
        "layer_norm_grad, and what is added to it",
        lambda x, c, g: layer_norm_grad(x, c, g, [1], 1e-5) + c,
        lambda x, c, g: _standardised_bar(x, c * g) + c,
        ((130, 128), (130, 128), (128,)),
    ),
    Case(
        "layer_norm_scale_grad",
        lambda x, c: layer_norm_scale_grad(x, c, [2], 1e-5),
        lambda x, c: (c * _standardised(x)).sum((0, 1)),
        ((60, 5, 77), (60, 5, 77)),
    ),
    Case(
        "rms_norm_grad",
        lambda x, c, g: rms_norm_grad(x, c, g, [1], 1e-5),
        lambda x, c, g: _scaled_bar(x, c * g),
        ((33, 48), (33, 48), (48,)),
    ),
    Case(
        "rms_norm_scale_grad",
        lambda x, c: rms_norm_scale_grad(x, c, [1], 1e-5),
        lambda x, c: (c * x / _size(x)).sum(0),
        ((33, 48), (33, 48)),
    ),
    # To one element.
    Case("whole", lambda x: R.sum(x * x), lambda x: (x * x).sum(), ((77, 1003),)),
    Case("whole, one axis", lambda x: R.sum(x * x), lambda x: (x * x).sum(), ((9001,),)),
    Case("whole, short", lambda x: R.mean(x), lambda x: x.mean(), ((32,),)),
]


def rule_of(func):
    host = get_target("host")
    return next(r.__name__ for r in rules_for(host) if r(func, host) is not None)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(case, dtype):
    inputs = case.inputs(dtype)
    func = fuse_kernel(case.build, *inputs)
    assert rule_of(func) == "reduction"
    (got,) = run_kernel(func, inputs)
    expected = case.expected(*(x.astype("float64") for x in inputs))
    # Sums in chunks of a few hundred elements: some ten roundings of the sum of magnitudes.
    scale = max(1.0, np.sqrt(np.prod(case.shapes[0]) / max(1, np.size(expected))))
    unit = np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=16 * unit, atol=16 * unit * scale)


def test_cross_entropy():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((20, 35)).astype("float32")
    labels = rng.integers(0, 35, 20).astype("int64")
    func = fuse_kernel(cross_entropy, x, labels)
    assert rule_of(func) == "reduction"
    (loss,) = run_kernel(func, [x, labels])
    expected = -scipy.special.log_softmax(x.astype("float64"), -1)[np.arange(20), labels].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def adamw_kernel(shape):
    tensors = [te.placeholder(shape, name=n) for n in "wmvg"]
    scalars = [te.placeholder((), name=n) for n in ("rate", "c1", "c2")]
    outputs = adamw_step.te_step(AdamW(), *tensors, *scalars)
    return te.create_prim_func([*tensors, *scalars, *outputs])


@pytest.mark.parametrize("shape", [(70, 50), (20011,), (3, 3, 1, 24)])
def test_several_outputs_in_one_pass(shape):
    rng = np.random.default_rng(5)
    w, m, v, g = (rng.random(shape).astype("float32") for _ in range(4))
    scalars = [np.array(s, "float32") for s in (1e-3, 0.1, 0.001)]
    func = adamw_kernel(shape)
    assert rule_of(func) == "reduction"
    new_w, new_m, new_v = run_kernel(func, [w, m, v, g, *scalars])
    a = AdamW()
    m1, v1 = a.beta1 * m + (1 - a.beta1) * g, a.beta2 * v + (1 - a.beta2) * g * g
    w1 = w * (1 - 1e-3 * a.weight_decay) - 1e-3 / 0.1 * m1 / (np.sqrt(v1 / 0.001) + a.eps)
    np.testing.assert_allclose(new_m, m1, rtol=1e-6)
    np.testing.assert_allclose(new_v, v1, rtol=1e-6)
    np.testing.assert_allclose(new_w, w1, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["channel sum", "rows", "bias", "whole"])
def test_additions_are_vectors(name):
    case = next(c for c in CASES if c.name == name)
    func = fuse_kernel(case.build, *case.inputs())
    assert count(r"v(add|fmadd\d+)ps.*zmm", assembly(func, "x86-64-v4")) >= 4
    assert count(r"f(add|mla)\s+v\d+\.4s", assembly(func, "raspberry-pi-4")) >= 4


def test_every_output_of_one_pass_is_vectorised():
    assert count(r"vsqrtps.*zmm", assembly(adamw_kernel((64, 64)), "x86-64-v4")) >= 1
    assert count(r"fsqrt\s+v\d+\.4s", assembly(adamw_kernel((64, 64)), "raspberry-pi-4")) >= 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_threads_do_not_change_values(case):
    inputs = case.inputs()
    func = fuse_kernel(case.build, *inputs)
    one, two = run_on_one_and_two_threads(func, inputs)
    np.testing.assert_array_equal(one[0], two[0])

"""Kernels without reductions: values, vectors on ragged shapes, threads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.special
from kernel_cases import assembly, count, fuse_kernel, run_kernel, run_on_one_and_two_threads
from tvm import relax, te

R = relax.op


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[..., Any]
    expected: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]

    def inputs(self, dtype="float32"):
        rng = np.random.default_rng(13)
        return [rng.standard_normal(s).astype(dtype) for s in self.shapes]

    def __str__(self):
        return self.name


def _batch_norm(x, m, s):
    return R.nn.relu6((x - m) * s + m)


def _batch_norm64(x, m, s):
    return np.clip((x - m) * s + m, 0, 6)


def _padded(x):
    return R.nn.pad(x, [0, 0, 1, 2, 1, 0, 0, 0])


def _padded64(x):
    return np.pad(x, ((0, 0), (1, 2), (1, 0), (0, 0)))


CASES = [
    Case("add, even", lambda x, y: x + y, lambda x, y: x + y, ((64, 64), (64, 64))),
    Case("add, ragged", lambda x, y: x + y, lambda x, y: x + y, ((7, 9, 13), (7, 9, 13))),
    Case("add, prime", lambda x, y: x + y, lambda x, y: x + y, ((20011,), (20011,))),
    Case("add, no even chunk", lambda x, y: x + y, lambda x, y: x + y, ((331, 101), (331, 101))),
    Case("channels", _batch_norm, _batch_norm64, ((2, 9, 11, 35), (35,), (35,))),
    Case("few channels", _batch_norm, _batch_norm64, ((2, 9, 11, 3), (3,), (3,))),
    Case("many pixels", _batch_norm, _batch_norm64, ((2, 28, 28, 24), (24,), (24,))),
    Case("rows", lambda x, s: x * s, lambda x, s: x * s, ((50, 33), (50, 1))),
    Case("scalar", R.exp, np.exp, ((),)),
    Case(
        "gelu",
        R.nn.gelu,
        lambda x: x * (1 + scipy.special.erf(x / np.sqrt(2))) / 2,
        ((31, 97),),
    ),
    Case("silu", R.nn.silu, lambda x: x / (1 + np.exp(-x)), ((31, 97),)),
    Case("transpose", R.permute_dims, lambda x: x.T, ((37, 65),)),
    Case(
        "heads",
        lambda x: R.permute_dims(x, [1, 2, 0]),
        lambda x: x.transpose(1, 2, 0),
        ((9, 4, 16),),
    ),
    Case("pad pixels", _padded, _padded64, ((2, 5, 6, 20),)),
    Case(
        "concatenate channels",
        lambda x, y: R.concat([x, y], axis=-1),
        lambda x, y: np.concatenate([x, y], -1),
        ((30, 21), (30, 12)),
    ),
    Case(
        "slice channels",
        lambda x: R.strided_slice(x, [1], [2], [19]),
        lambda x: x[:, 2:19],
        ((30, 21),),
    ),
    Case(
        "reshape",
        lambda x: R.reshape(x, (6, 35)) * x_const(),
        lambda x: x.reshape(6, 35) * 2,
        ((7, 30),),
    ),
    Case("where", lambda x, y: R.where(R.less(x, y), x, y), np.minimum, ((50, 21), (21,))),
]


def x_const():
    return relax.const(2.0, "float32")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case):
    inputs = case.inputs()
    (got,) = run_kernel(fuse_kernel(case.build, *inputs), inputs)
    expected = case.expected(*(x.astype("float64") for x in inputs))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=5e-7)


@pytest.mark.parametrize("name", ["channels", "add, no even chunk", "gelu"])
def test_float64(name):
    case = next(c for c in CASES if c.name == name)
    inputs = case.inputs("float64")
    (got,) = run_kernel(fuse_kernel(case.build, *inputs), inputs)
    np.testing.assert_allclose(got, case.expected(*inputs), rtol=1e-13, atol=1e-13)


def test_rows_of_a_table():
    rng = np.random.default_rng(1)
    table = rng.standard_normal((40, 35)).astype("float32")
    rows = rng.integers(0, 40, (3, 5)).astype("int32")
    (got,) = run_kernel(fuse_kernel(lambda t, r: R.take(t, r, axis=0), table, rows), [table, rows])
    np.testing.assert_array_equal(got, table[rows])


def test_outputs_that_read_each_other_read_inputs_only():
    """m' = m + g; w' = w - m' · m in one pass: w' must not see an m that m' has replaced."""
    w, m, g = (te.placeholder((40, 21), name=n) for n in "wmg")
    m1 = te.compute((40, 21), lambda i, j: m[i, j] + g[i, j], name="m1")
    w1 = te.compute((40, 21), lambda i, j: w[i, j] - m1[i, j] * m[i, j], name="w1")
    func = te.create_prim_func([w, m, g, m1, w1])
    arrays = [
        np.random.default_rng(k).standard_normal((40, 21)).astype("float32") for k in range(3)
    ]
    new_m, new_w = run_kernel(func, arrays)
    np.testing.assert_allclose(new_m, arrays[1] + arrays[2], rtol=1e-6)
    np.testing.assert_allclose(new_w, arrays[0] - new_m * arrays[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["add, even", "add, ragged", "add, no even chunk", "channels"])
def test_ragged_shapes_are_vectorised(name):
    case = next(c for c in CASES if c.name == name)
    func = fuse_kernel(case.build, *case.inputs())
    assert count(r"v(add|fmadd\d+)ps.*zmm", assembly(func, "x86-64-v4")) >= 1
    assert count(r"f(add|mla|sub)\s+v\d+\.4s", assembly(func, "raspberry-pi-4")) >= 1


def test_small_kernels_stay_on_one_thread():
    small = fuse_kernel(lambda x, y: x + y, ((100, 100), "float32"), ((100, 100), "float32"))
    large = fuse_kernel(lambda x, y: x + y, ((200, 100), "float32"), ((200, 100), "float32"))
    assert "ParallelLaunch" not in assembly(small, "x86-64-v4")
    assert "ParallelLaunch" in assembly(large, "x86-64-v4")


@pytest.mark.parametrize("name", ["add, prime", "add, no even chunk", "many pixels"])
def test_threads_do_not_change_values(name):
    case = next(c for c in CASES if c.name == name)
    inputs = case.inputs()
    func = fuse_kernel(case.build, *inputs)
    one, two = run_on_one_and_two_threads(func, inputs)
    np.testing.assert_array_equal(one[0], two[0])

"""Expanded functions: error against float64, special values, no call to libm."""

import re

import numpy as np
import pytest
import scipy.special
import tvm
from tvm import te, tirx

from pock_tvm.relay_passes.expand_transcendentals import ExpandTranscendentals
from pock_tvm.schedules import schedule_kernel
from pock_tvm.targets import get_target

POINTS = 1 << 16


def kernel(function, dtype="float32", points=POINTS):
    x = te.placeholder((points,), dtype, name="x")
    y = te.compute((points,), lambda i: function(x[i]), name="y")
    return te.create_prim_func([x, y]).with_attr("global_symbol", "main")


def expand(func, spec="host"):
    mod = tvm.IRModule({"main": schedule_kernel(func, get_target(spec))})
    return ExpandTranscendentals()(mod)


def evaluate(function, x):
    padded = np.zeros(POINTS, "float32")
    padded[: x.size] = x
    lib = tirx.build(expand(kernel(function)), target=get_target("host").build())
    out = tvm.runtime.tensor(np.full(POINTS, np.nan, "float32"))
    lib["main"](tvm.runtime.tensor(padded), out)
    return out.numpy()[: x.size]


def ulps(got, expected):
    """Distance in units of the last place of the correctly rounded result."""
    rounded = expected.astype("float32")
    unit = np.maximum(np.spacing(np.abs(rounded)), np.finfo("float32").smallest_subnormal)
    return np.abs(got.astype("float64") - expected) / unit


def sigmoid64(x):
    return 1 / (1 + np.exp(-x))


RELATIVE = [
    ("exp", tirx.exp, np.exp, (-103.9, 88.72), 2),
    ("exp, near zero", tirx.exp, np.exp, (-1, 1), 2),
    ("log", tirx.log, np.log, (1e-3, 50), 2),
    ("log, near one", tirx.log, np.log, (0.7, 1.5), 2),
    ("log, large", tirx.log, np.log, (1, 3e38), 2),
    ("log, subnormal", tirx.log, np.log, (1e-45, 1.2e-38), 2),
    ("tanh", tirx.tanh, np.tanh, (-12, 12), 3),
    ("tanh, near zero", tirx.tanh, np.tanh, (-0.7, 0.7), 3),
    ("sigmoid", tirx.sigmoid, sigmoid64, (-80, 80), 4),
    ("cube", lambda x: tirx.pow(x, tirx.const(3.0, "float32")), lambda x: x**3, (-9, 9), 2),
    ("square", lambda x: tirx.pow(x, tirx.const(2.0, "float32")), lambda x: x**2, (-9, 9), 1),
    ("inverse", lambda x: tirx.pow(x, tirx.const(-1.0, "float32")), lambda x: 1 / x, (0.1, 9), 1),
]


@pytest.mark.parametrize("name,function,exact,span,bound", RELATIVE, ids=[r[0] for r in RELATIVE])
def test_relative_error(name, function, exact, span, bound):
    x = np.linspace(*span, POINTS - 7).astype("float32")
    assert ulps(evaluate(function, x), exact(x.astype("float64"))).max() <= bound


@pytest.mark.parametrize("span", [(-6, 6), (-1.1, 1.1), (-1e-3, 1e-3)])
def test_erf_absolute_error(span):
    x = np.linspace(*span, POINTS).astype("float32")
    error = np.abs(evaluate(tirx.erf, x) - scipy.special.erf(x.astype("float64")))
    assert error.max() < 2e-7


def test_small_arguments_keep_their_relative_error():
    x = np.geomspace(1e-38, 1e-2, 4096).astype("float32")
    assert ulps(evaluate(tirx.tanh, x), np.tanh(x.astype("float64"))).max() <= 1
    assert ulps(evaluate(tirx.erf, x), scipy.special.erf(x.astype("float64"))).max() <= 2


SPECIAL = np.array(
    [np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0, 200.0, -200.0, 3e38, -3e38, 88.8], "float32"
)


@pytest.mark.parametrize(
    "function,exact",
    [
        (tirx.exp, np.exp),
        (tirx.log, np.log),
        (tirx.tanh, np.tanh),
        (tirx.erf, scipy.special.erf),
        (tirx.sigmoid, scipy.special.expit),
    ],
    ids=["exp", "log", "tanh", "erf", "sigmoid"],
)
def test_special_values(function, exact):
    with np.errstate(all="ignore"):
        expected = exact(SPECIAL)
    np.testing.assert_allclose(evaluate(function, SPECIAL), expected, rtol=3e-7, atol=1e-37)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erf", "sigmoid"])
@pytest.mark.parametrize(
    "spec,vector", [("x86-64-v4", r"vfn?madd\d+ps.*zmm"), ("raspberry-pi-4", r"fml[as]\s+v\d+\.4s")]
)
def test_becomes_vector_arithmetic(name, spec, vector):
    lib = tirx.build(expand(kernel(getattr(tirx, name)), spec), target=get_target(spec).build())
    text = lib.inspect_source("asm")
    assert len(re.findall(vector, text)) >= 3
    assert not re.search(rf"\b(expf|logf|tanhf|erff|floorf|roundf|{name}f?)@?\b", _calls(text))


def _calls(text):
    jumps = re.compile(r"\b(call\w*|bl|jmp|b)\s")
    return "\n".join(line for line in text.splitlines() if jumps.search(line))


def test_float64_and_other_powers_are_left_alone():
    for func in (
        kernel(tirx.exp, "float64"),
        kernel(lambda x: tirx.pow(x, tirx.const(2.5, "float32"))),
        kernel(lambda x: tirx.sqrt(x) + x),
    ):
        mod = tvm.IRModule({"main": func})
        tvm.ir.assert_structural_equal(ExpandTranscendentals()(mod), mod)


def test_the_input_is_not_changed_and_twice_is_once():
    mod = tvm.IRModule({"main": kernel(lambda x: tirx.exp(tirx.tanh(x)))})
    before = mod.script()
    once = ExpandTranscendentals()(mod)
    assert mod.script() == before
    tvm.ir.assert_structural_equal(ExpandTranscendentals()(once), once)

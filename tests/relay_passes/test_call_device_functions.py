"""Functions that a device's language has under a name of its own, or not at all."""

import numpy as np
import pytest
import tvm
from tvm import tirx

from pock_tvm.relay_passes.call_device_functions import CallDeviceFunctions


def kernel(kind, function):
    x = tirx.decl_buffer([tirx.const(5, "int32")], "float32", "x")
    i = tirx.Var("i", "int32")
    store = tirx.BufferStore(x, function(tirx.BufferLoad(x, [i])), [i])
    body = tirx.For(i, tirx.const(0, "int32"), tirx.const(5, "int32"), tirx.ForKind.SERIAL, store)
    func = tirx.PrimFunc([x], body).with_attr("global_symbol", "main")
    return tvm.IRModule({"main": func.with_attr("target", tvm.target.Target({"kind": kind}))})


def stored(mod):
    return str(mod["main"].body.body.value)


@pytest.mark.parametrize("name", ["atan", "sinh", "log1p"])
def test_opencl_calls_its_own(name):
    mod = kernel("opencl", getattr(tirx, name))
    before = stored(mod)
    assert stored(CallDeviceFunctions()(mod)) == f'T.call_pure_extern("float32", "{name}", x[i])'
    assert stored(mod) == before, "the module that came in is as it was"


@pytest.mark.parametrize(("kind", "name"), [("cuda", "log1p"), ("opencl", "exp"), ("metal", "exp")])
def test_what_tvm_knows_is_left_alone(kind, name):
    mod = kernel(kind, getattr(tirx, name))
    assert stored(CallDeviceFunctions()(mod)) == stored(mod)


def test_metal_gets_a_logarithm_that_is_exact_near_zero():
    mod = CallDeviceFunctions()(kernel("metal", tirx.log1p))
    assert "log1p" not in stored(mod)
    host = tvm.target.Target({"kind": "llvm"})
    lib = tirx.build(mod["main"].with_attr("target", host), target=host)
    x = np.array([0.0, 1e-8, -3e-5, 0.7, 90.0], "float32")
    y = tvm.runtime.tensor(x)
    lib["main"](y)
    np.testing.assert_allclose(y.numpy(), np.log1p(x.astype("float64")), rtol=1e-6)

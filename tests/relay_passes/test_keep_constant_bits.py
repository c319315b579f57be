"""Constants of a device's source: their bits where seven digits would round them."""

import numpy as np
import pytest
import tvm
from tvm import tirx

from pock_tvm.relay_passes.keep_constant_bits import KeepConstantBits


def kernel(kind, *values):
    x = tirx.decl_buffer([tirx.const(1, "int32")], "float32", "x")
    stores = [tirx.BufferStore(x, tirx.const(v, "float32"), [0]) for v in values]
    func = tirx.PrimFunc([x], tirx.SeqStmt(stores))
    return tvm.IRModule({"main": func.with_attr("target", tvm.target.Target({"kind": kind}))})


def stored(mod):
    return [str(statement.value) for statement in mod["main"].body.seq]


@pytest.mark.parametrize(
    ("kind", "function"), [("opencl", "as_float"), ("metal", "as_type<float>")]
)
def test_a_third_is_written_by_its_bits(kind, function):
    mod = kernel(kind, float(np.float32(1 / 3)), 0.5, -3.25)
    before = stored(mod)
    third, half, quarter = stored(KeepConstantBits()(mod))
    bits = np.float32(1 / 3).view("int32")
    assert third == f'T.call_pure_extern("float32", "{function}", {bits})'
    assert [half, quarter] == before[1:], "seven digits hold these"
    assert stored(mod) == before, "the module that came in is as it was"


def test_a_target_that_prints_every_bit_is_left_alone():
    mod = kernel("llvm", float(np.float32(1 / 3)), 0.5)
    assert stored(KeepConstantBits()(mod)) == stored(mod)

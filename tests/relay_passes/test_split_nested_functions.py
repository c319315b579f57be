"""Functions of functions: same values, arguments in registers, guarded ones left alone."""

import re

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import s_tir, te, tirx

from pock_tvm.relay_passes.expand_transcendentals import ExpandTranscendentals
from pock_tvm.relay_passes.pass_raw_pointers import lower_kernels
from pock_tvm.relay_passes.split_nested_functions import SplitNestedFunctions
from pock_tvm.schedules import schedule_kernel
from pock_tvm.targets import get_target

ONE = tirx.const(1.0, "float32")


def softplus_tanh(x):
    return tirx.tanh(tirx.log(tirx.exp(x) + ONE))


def guarded(x):
    return tirx.if_then_else(x > tirx.const(0.0, "float32"), tirx.exp(tirx.log(x)), x)


def loops(function, points=1000, spec="host", *, scheduled=True):
    """Return the kernel as plain loops, in vectors of the target if scheduled."""
    x = te.placeholder((points,), "float32", name="x")
    y = te.compute((points,), lambda i: function(x[i]), name="y")
    func = te.create_prim_func([x, y]).with_attr("global_symbol", "main")
    if scheduled:
        func = schedule_kernel(func, get_target(spec))
    lower = tvm.transform.Sequential(
        [s_tir.transform.ConvertBlocksToOpaque(), s_tir.transform.LowerOpaqueBlock()]
    )
    return lower(tvm.IRModule({"main": func}))


def arguments(mod):
    """Return the lengths of the buffers that hold the argument of a function."""
    found = []
    tvm_ffi.structural_walk(mod["main"].body, (tirx.AllocBuffer, found.append))
    names = [alloc.buffer for alloc in found if alloc.buffer.name.startswith("argument")]
    return [int(buffer.shape[0]) for buffer in names]


@pytest.mark.parametrize("scheduled", [True, False])
def test_values(scheduled):
    """Relative error: 2 ulp of exp and half of one of the sum, over log ≥ ln 2, then 2 and 3."""
    split = SplitNestedFunctions()(loops(softplus_tanh, scheduled=scheduled))
    lib = tirx.build(ExpandTranscendentals()(split), target=get_target("host").build())
    x = np.linspace(0, 5, 1000).astype("float32")
    out = tvm.runtime.tensor(np.full(1000, np.nan, "float32"))
    lib["main"](tvm.runtime.tensor(x), out)
    exact = np.tanh(np.log1p(np.exp(x.astype("float64"))))
    epsilon = np.finfo("float32").eps
    np.testing.assert_allclose(out.numpy(), exact, rtol=(2.5 / np.log(2) + 2 + 3) * epsilon)


def test_a_buffer_holds_a_vector():
    # 1000 elements: 62 vectors of 16, and one of 8.
    split = SplitNestedFunctions()(loops(softplus_tanh, spec="x86-64-v4"))
    assert arguments(split) == [16, 16, 8, 8]
    assert arguments(SplitNestedFunctions()(loops(softplus_tanh, scheduled=False))) == [1, 1]


def test_arguments_stay_in_registers():
    target = get_target("x86-64-v4").build()
    target = target.with_host(target)
    lower = tvm.transform.Sequential(
        [
            tirx.transform.BindTarget(target),
            lower_kernels(),
            tirx.transform.LowerTVMBuiltin(),
            tirx.transform.LowerIntrin(),
        ]
    )
    mod = lower(loops(softplus_tanh, 1600, spec="x86-64-v4"))
    text = tvm.get_global_func("target.build.llvm")(mod, target).inspect_source("asm")
    assert len(re.findall(r"vfn?madd\d+ps.*zmm", text)) >= 9, "in vectors"
    stores = re.findall(r"^\s*vmov\w+\s+%zmm\d+, .*\(.*", text, re.M)
    assert len(stores) == 1, "only the result goes to memory"


@pytest.mark.parametrize("function", [guarded, tirx.tanh, lambda x: tirx.exp(x) * tirx.log(x)])
def test_what_is_guarded_or_not_nested_is_left_alone(function):
    mod = loops(function)
    tvm.ir.assert_structural_equal(SplitNestedFunctions()(mod), mod)


def test_the_input_is_not_changed_and_twice_is_once():
    mod = loops(softplus_tanh)
    before = mod.script()
    once = SplitNestedFunctions()(mod)
    assert mod.script() == before
    tvm.ir.assert_structural_equal(SplitNestedFunctions()(once), once)

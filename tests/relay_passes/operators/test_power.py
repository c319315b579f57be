"""``relax.power`` with a constant exponent."""

import numpy as np
import pytest
import tvm
from tvm import relax

from pock_tvm.relay_passes.pipeline import LOWERINGS


def lowered(exponent, dtype="float32"):
    """Return the lowered module of x ** exponent."""
    x = relax.Var("x", relax.TensorType((3, 4), dtype))
    bb = relax.BlockBuilder()
    with bb.function("main", [x]):
        bb.emit_func_output(bb.emit(relax.op.power(x, relax.const(exponent, dtype))))
    return relax.transform.LegalizeOps(LOWERINGS)(bb.get())


@pytest.mark.parametrize("exponent", [1, 2, 3, 5, 8, -1, -3])
def test_small_whole_powers_are_multiplied_out_without_a_warning(exponent, capfd):
    x = np.random.default_rng(0).uniform(-3, 3, (3, 4))
    mod = lowered(float(exponent), "float64")
    assert "pow(" not in mod.script()
    run = relax.VirtualMachine(tvm.compile(mod, "llvm"), tvm.cpu())["main"]
    # xⁿ by squares is as far off as n - 1 roundings, one more of the division, one of NumPy's.
    limit = (abs(exponent) + 1) * 2.0**-53
    np.testing.assert_allclose(run(tvm.runtime.tensor(x)).numpy(), x**exponent, rtol=limit)
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.5, 9.0])
def test_others_are_tvms(exponent):
    assert "pow(" in lowered(exponent).script()

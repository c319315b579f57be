import numpy as np
import pytest
import tvm
from tvm import relax

from pock_tvm.relay_passes.operators import LOWERINGS
from pock_tvm.relay_passes.operators.first_occurrence import first_occurrence


@pytest.mark.parametrize("values", [[3], [5, 5, 5], [1, 2, 1, 0, 2, 7]])
def test_the_first_equal_element(values):
    i = relax.Var("i", relax.TensorType((len(values),), "int32"))
    bb = relax.BlockBuilder()
    with bb.function("main", [i]):
        with bb.dataflow():
            out = bb.emit_output(first_occurrence(i))
        bb.emit_func_output(out)
    mod = relax.transform.LegalizeOps(LOWERINGS)(bb.get())
    vm = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    got = vm["main"](tvm.runtime.tensor(np.array(values, "int32"))).numpy()
    assert got.tolist() == [values.index(v) for v in values]

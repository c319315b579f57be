import numpy as np
import pytest
import tvm
from tvm import relax

from pock_tvm.relay_passes.operators import LOWERINGS
from pock_tvm.relay_passes.operators.write_slice import write_slice


def written(w, indices, values, axis):
    params = [
        relax.Var(name, relax.TensorType(a.shape, str(a.dtype)))
        for name, a in (("w", w), ("indices", indices), ("values", values))
    ]
    bb = relax.BlockBuilder()
    with bb.function("main", params):
        with bb.dataflow():
            out = bb.emit_output(write_slice(*params, axis))
        bb.emit_func_output(out)
    mod = relax.transform.LegalizeOps(LOWERINGS)(bb.get())
    vm = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    return vm["main"](*(tvm.runtime.tensor(a.copy()) for a in (w, indices, values))).numpy()


@pytest.mark.parametrize(("shape", "axis"), [((5,), 0), ((5, 3), 0), ((4, 5), 1), ((2, 5, 3), 1)])
def test_values_stand_at_their_indices(shape, axis):
    rng = np.random.default_rng(0)
    w = rng.standard_normal(shape).astype("float32")
    indices = np.array([4, 0], "int32")
    part = list(shape)
    part[axis] = 2
    values = rng.standard_normal(part).astype("float32")
    wanted = w.copy()
    wanted[(slice(None),) * axis + (indices,)] = values
    np.testing.assert_array_equal(written(w, indices, values, axis), wanted)


def test_an_index_outside_writes_nothing():
    w = np.zeros((3, 2), "float32")
    values = np.ones((3, 2), "float32")
    got = written(w, np.array([-1, 1, 3], "int32"), values, 0)
    np.testing.assert_array_equal(got, [[0, 0], [1, 1], [0, 0]])

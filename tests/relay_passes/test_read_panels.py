"""A kernel that reads panels computes what it did."""

import numpy as np
import pytest
import tvm
from tvm import te

from pock_tvm.relay_passes.read_panels import read_panels


def _kernel():
    """y[i, j] = Σ x[i, k] · w[k, j] + Σ w[k, j]."""
    x, w = te.placeholder((5, 6), name="x"), te.placeholder((6, 12), name="w")
    k, m = te.reduce_axis((0, 6), "k"), te.reduce_axis((0, 6), "m")
    product = te.compute((5, 12), lambda i, j: te.sum(x[i, k] * w[k, j], axis=k), name="product")
    columns = te.compute((12,), lambda j: te.sum(w[m, j], axis=m), name="columns")
    y = te.compute((5, 12), lambda i, j: product[i, j] + columns[j], name="y")
    return te.create_prim_func([x, w, y])


@pytest.mark.parametrize("width", [1, 4, 12])
def test_every_reader_of_the_parameter_finds_its_elements(width):
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal(s).astype("float32") for s in ((5, 6), (6, 12)))
    panels = np.ascontiguousarray(w.reshape(6, 12 // width, width).transpose(1, 0, 2))
    func = read_panels(_kernel(), 1, width)
    assert [int(e) for e in func.params[1].shape] == list(panels.shape)
    y = tvm.runtime.tensor(np.empty((5, 12), "float32"))
    tvm.compile(func, target="llvm")["main"](*(tvm.runtime.tensor(a) for a in (x, panels)), y)
    expected = x.astype(float) @ w + w.sum(0, dtype=float)
    limit = 16 * np.finfo(np.float32).eps * np.abs(x).max() * np.abs(w).sum(0).max()
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=limit)

"""Kernels that pack a condition, and that select by packed bits, whole vectors and ragged ones."""

import numpy as np
import pytest
from kernel_cases import assembly, count, fuse_kernel, run_kernel
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.operators.bits import WORD, pack_bits, unpack_bits, words_shape

SHAPES = [(2, 8, 8, 48), (3, 5, 7, 13), (70, 33), (1, 16)]


def packed(shape):
    """Return the kernel of ``pack_bits(0 < x < 6)``."""

    def build(x):
        inside = op.logical_and(op.greater(x, relax.const(0.0)), op.less(x, relax.const(6.0)))
        return pack_bits(inside)

    return fuse_kernel(build, (shape, "float32"))


def selected(shape):
    """Return the kernel of ``ct where the bit is set, else 0``."""

    def build(words, ct):
        return op.where(unpack_bits(words, shape), ct, relax.const(0.0))

    return fuse_kernel(build, (words_shape(shape), "uint32"), (shape, "float32"))


@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape):
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 9, shape).astype("float32")
    ct = rng.standard_normal(shape).astype("float32")
    inside = (x > 0) & (x < 6)
    (words,) = run_kernel(packed(shape), [x])
    bits = (words[:, None] >> np.arange(WORD, dtype="uint32")[:, None]) & 1
    flat = bits.reshape(-1, shape[-1])[: x.size // shape[-1]]
    np.testing.assert_array_equal(flat.reshape(shape), inside)
    (got,) = run_kernel(selected(shape), [words, ct, np.zeros((), "float32")])
    np.testing.assert_array_equal(got, np.where(inside, ct, 0))


def test_packing_compares_whole_vectors():
    text = assembly(packed((2, 8, 8, 48)), "x86-64-v4")
    assert count(r"vcmp\w*ps.*%zmm", text) >= 3
    assert not count(r"vu?comiss", text)

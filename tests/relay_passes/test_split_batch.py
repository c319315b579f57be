"""SplitBatch: the same loss from parts of the batch, and what cannot be split."""

import numpy as np
import pytest
from pass_checks import main_of, operators, run
from test_split_prefix import copied
from tvm import relax
from tvm.relax import op

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.losses import CrossEntropy, Huber
from pock_tvm.relay_passes.append_loss import AppendLoss
from pock_tvm.relay_passes.split_batch import SplitBatch

SHAPES = {"x": (4, 8), "w": (8, 5)}


def linear(bb, x, w):
    return bb.emit(op.matmul(bb.emit(op.tanh(x)), w))


def split(mod, count=2):
    before = mod.script()
    after = SplitBatch(["x"], count)(mod)
    assert mod.script() == before
    relax.analysis.well_formed(after)
    return after


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-100, -100, 2, 1], [4, -100, -100, -100]])
def test_the_mean_over_the_labels_that_count(labels):
    mod = AppendLoss(CrossEntropy())(main_of(linear, SHAPES))
    after = split(mod)
    assert operators(after).count("matmul") == operators(after).count("pock.cross_entropy") == 2
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=shape) for shape in SHAPES.values()]
    arrays.append(np.array(labels, "int32"))
    (wanted,), (got,) = run(mod, *arrays), run(copied(after), *arrays)
    np.testing.assert_allclose(got, wanted, rtol=1e-14)


def test_a_mean_over_values():
    mod = AppendLoss(Huber())(main_of(linear, SHAPES))
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=shape) for shape in (*SHAPES.values(), (4, 5))]
    (wanted,), (got,) = run(mod, *arrays), run(copied(split(mod, 4)), *arrays)
    np.testing.assert_allclose(got, wanted, rtol=1e-14)


def test_samples_that_meet_are_refused():
    def build(bb, x, w):
        return bb.emit(op.matmul(bb.emit(op.subtract(x, op.mean(x, [0], keepdims=True))), w))

    mod = AppendLoss(CrossEntropy())(main_of(build, SHAPES))
    with pytest.raises(UnsupportedModelError, match="depend on other samples"):
        split(mod)


def test_one_part_leaves_the_module_alone():
    mod = AppendLoss(CrossEntropy())(main_of(linear, SHAPES))
    assert split(mod, 1).script() == mod.script()

"""AppendLoss: what main returns, and the numbers of PyTorch."""

import numpy as np
import pytest
import torch
import tvm
from pass_checks import main_of, run
from torch.nn.functional import cross_entropy, mse_loss
from tvm import relax

from pock_tvm.losses import CrossEntropy, MeanSquaredError
from pock_tvm.relay_passes.append_loss import AppendLoss

CASES = {
    "cross entropy": (CrossEntropy(), (6, 5)),
    "smoothed, one ignored": (CrossEntropy(label_smoothing=0.2, ignore_index=2), (6, 5)),
    "a label per token": (CrossEntropy(), (3, 4, 5)),
    "mse": (MeanSquaredError(), (6, 5)),
}


def _model(shape, dtype="float32"):
    return main_of(lambda bb, x: bb.emit(relax.op.multiply(x, x)), {"x": shape}, dtype)


def _labels(loss, shape):
    generator = np.random.default_rng(1)
    if isinstance(loss, MeanSquaredError):
        return generator.standard_normal(shape, "float32")
    return generator.integers(0, shape[-1], shape[:-1]).astype("int32")


def _wanted(loss, logits, labels):
    logits, labels = torch.tensor(logits), torch.tensor(labels)
    if isinstance(loss, MeanSquaredError):
        return mse_loss(logits, labels).item()
    options = {"label_smoothing": loss.label_smoothing, "ignore_index": loss.ignore_index}
    return cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels.reshape(-1).long(), **options
    ).item()


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    loss, shape = CASES[name]
    x = np.random.default_rng(0).standard_normal(shape, "float32")
    labels = _labels(loss, shape)
    before = _model(shape)
    untouched = before.clone()
    after = AppendLoss(loss)(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises
    assert [p.name for p in after["main"].params] == ["x", "labels"]
    (got,) = run(after, x, labels)
    assert got.shape == ()
    assert float(got) == pytest.approx(_wanted(loss, x * x, labels), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_accuracy_counts_where_there_are_classes(name):
    loss, shape = CASES[name]
    x = np.random.default_rng(0).standard_normal(shape, "float32")
    labels = _labels(loss, shape)
    results = run(AppendLoss(loss, "accuracy")(_model(shape)), x, labels)
    assert float(results[0]) == pytest.approx(_wanted(loss, x * x, labels), rel=1e-6)
    if isinstance(loss, MeanSquaredError):
        assert len(results) == 1
    else:
        hits = (x * x).argmax(-1) == labels
        assert int(results[1]) == hits[labels != loss.ignore_index].sum()


def test_other_outputs_stay_behind_the_loss():
    mod = main_of(lambda bb, x: (bb.emit(x * x), bb.emit(x + x)), {"x": (2, 3)}, "float32")
    x = np.ones((2, 3), "float32")
    loss, rest = run(AppendLoss(MeanSquaredError())(mod), x, np.zeros((2, 3), "float32"))
    assert float(loss) == 1.0
    np.testing.assert_array_equal(rest, 2 * x)

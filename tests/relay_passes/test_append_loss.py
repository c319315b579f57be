"""AppendLoss: what main returns, the numbers of PyTorch, and the gradients of both."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from pass_checks import main_of, run
from tvm import relax

from pock_tvm import PockError
from pock_tvm.losses import (
    LOSSES,
    BinaryCrossEntropy,
    Contrastive,
    CrossEntropy,
    Distillation,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    SmoothL1,
)
from pock_tvm.relay_passes.append_loss import AppendLoss
from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.operators import LOWERINGS

EPS = 1e-5  # truncation ~ eps² = 1e-10, cancellation ~ 1e-16 / eps = 1e-11: both below rtol


def _cross_entropy(loss, x, y):
    options = {"label_smoothing": loss.label_smoothing, "ignore_index": loss.ignore_index}
    return F.cross_entropy(x.reshape(-1, x.shape[-1]), y.reshape(-1).long(), **options)


def _distillation(loss, x, y, z):
    t = loss.temperature
    counted = y.reshape(-1) != loss.ignore_index
    q = F.log_softmax(x.reshape(-1, x.shape[-1])[counted] / t, -1)
    p = F.log_softmax(z.reshape(-1, x.shape[-1])[counted] / t, -1)
    soft = F.kl_div(q, p, reduction="batchmean", log_target=True)
    return (1 - loss.weight) * _cross_entropy(loss, x, y) + loss.weight * t * t * soft


def _contrastive(x):
    diagonal = torch.arange(len(x))
    return (F.cross_entropy(x, diagonal) + F.cross_entropy(x.T, diagonal)) / 2


def _bce(loss, x, y):
    weight = torch.tensor(loss.pos_weight, dtype=x.dtype)
    return F.binary_cross_entropy_with_logits(x, y, pos_weight=weight)


CASES = {
    "cross entropy": (CrossEntropy(), (6, 5), _cross_entropy),
    "smoothed, one ignored": (
        CrossEntropy(label_smoothing=0.2, ignore_index=2),
        (6, 5),
        _cross_entropy,
    ),
    "a label per token": (CrossEntropy(ignore_index=1), (3, 4, 5), _cross_entropy),
    "bce": (BinaryCrossEntropy(), (6, 5), _bce),
    "bce, weighted": (BinaryCrossEntropy(pos_weight=3.5), (2, 3, 5), _bce),
    "mse": (MeanSquaredError(), (6, 5), lambda _, x, y: F.mse_loss(x, y)),
    "l1": (MeanAbsoluteError(), (6, 5), lambda _, x, y: F.l1_loss(x, y)),
    "huber": (Huber(delta=0.7), (6, 5), lambda o, x, y: F.huber_loss(x, y, delta=o.delta)),
    "smooth l1": (SmoothL1(beta=0.7), (6,), lambda o, x, y: F.smooth_l1_loss(x, y, beta=o.beta)),
    "contrastive": (Contrastive(), (5, 5), lambda _, x: _contrastive(x)),
    "distillation": (Distillation(), (6, 5), _distillation),
    "distillation, options": (
        Distillation(weight=0.3, temperature=4.0, label_smoothing=0.1, ignore_index=2),
        (3, 4, 5),
        _distillation,
    ),
}


def _model(loss, shape, dtype):
    """Logits w²; beside them those of a teacher where the loss takes them."""

    def build(bb, w, z=None):
        logits = bb.emit(relax.op.multiply(w, w))
        return logits if z is None else (logits, bb.emit(relax.op.negative(z)))

    teacher = {"z": shape} if isinstance(loss, Distillation) else {}
    return main_of(build, {"w": shape, **teacher}, dtype)


def _arguments(loss, shape, dtype):
    """Return w, the teacher's z where there is one, the labels where there are some."""
    generator = np.random.default_rng(1)
    arguments = [generator.uniform(-2, 2, shape).astype(dtype)]
    if isinstance(loss, Distillation):
        arguments.append(generator.standard_normal(shape).astype(dtype))
    if isinstance(loss, BinaryCrossEntropy):
        arguments.append(generator.integers(0, 2, shape).astype(dtype))
    elif loss.labels == "values":
        arguments.append(generator.uniform(0, 4, shape).astype(dtype))
    elif loss.labels == "classes":
        labels = generator.integers(0, shape[-1], shape[:-1]).astype("int32")
        labels.flat[0] = loss.ignore_index if loss.ignore_index >= 0 else 0
        arguments.append(labels)
    return arguments


def _wanted(name, arguments):
    """Return PyTorch's loss, and its gradient by w."""
    loss, _, reference = CASES[name]
    w = torch.tensor(arguments[0], dtype=torch.float64, requires_grad=True)
    rest = [torch.tensor(a) for a in arguments[1:]]
    rest = [a.double() if a.is_floating_point() else a for a in rest]
    if isinstance(loss, Distillation):
        z, labels = rest
        value = reference(loss, w * w, labels, -z)
    else:
        value = reference(loss, w * w, *rest)
    value.backward()
    return value.item(), w.grad.numpy()


def test_every_loss_has_a_case():
    assert {loss.name for loss, _, _ in CASES.values()} == set(LOSSES)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    loss, shape, _ = CASES[name]
    before = _model(loss, shape, "float64")
    untouched = before.clone()
    after = AppendLoss(loss)(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises
    labels = [] if loss.labels == "none" else ["labels"]
    teacher = ["z"] if isinstance(loss, Distillation) else []
    assert [p.name for p in after["main"].params] == ["w", *teacher, *labels]

    joint = _Function(DeriveBackward(["w"])(after))
    w, *rest = _arguments(loss, shape, "float64")
    value, gradient = joint(w, *rest)
    wanted, wanted_gradient = _wanted(name, [w, *rest])
    assert value.shape == ()
    assert float(value) == pytest.approx(wanted, rel=1e-10)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-9, atol=1e-12)

    tangent = np.random.default_rng(2).standard_normal(shape)
    plus, minus = (joint(w + sign * EPS * tangent, *rest)[0] for sign in (1, -1))
    numeric = (plus - minus) / (2 * EPS)
    np.testing.assert_allclose(np.vdot(gradient, tangent), numeric, rtol=1e-7, atol=1e-9)


class _Function:
    """``main`` compiled once."""

    def __init__(self, mod):
        legal = relax.transform.LegalizeOps(LOWERINGS)(mod)
        target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
        self.vm = relax.VirtualMachine(tvm.compile(legal, target=target), tvm.cpu())

    def __call__(self, *arrays):
        return [r.numpy() for r in self.vm["main"](*(tvm.runtime.tensor(a) for a in arrays))]


@pytest.mark.parametrize("name", CASES)
def test_accuracy_counts_where_there_is_right_and_wrong(name):
    loss, shape, _ = CASES[name]
    arguments = _arguments(loss, shape, "float32")
    results = run(AppendLoss(loss, "accuracy")(_model(loss, shape, "float32")), *arguments)
    assert float(results[0]) == pytest.approx(_wanted(name, arguments)[0], rel=1e-5)
    logits, labels = arguments[0] ** 2, arguments[-1]
    if not loss.counts:
        assert len(results) == 1
    elif isinstance(loss, BinaryCrossEntropy):
        assert int(results[1]) == ((logits > 0) == (labels > 0.5)).sum()
    else:
        hits = logits.argmax(-1) == labels
        assert int(results[1]) == hits[labels != loss.ignore_index].sum()


@pytest.mark.parametrize("size", [1.0, 100.0, 1e30])
def test_large_logits_stay_finite_in_float32(size):
    """exp(100) is infinite in float32: every loss of logits must take its logarithm first."""
    x = np.array([[size, -size], [-size, size]], "float32")
    labels = np.array([[1, 0], [1, 0]], "float32")
    identity = main_of(lambda bb, x: bb.emit(relax.op.negative(x)), {"x": (2, 2)}, "float32")
    cases = [
        (BinaryCrossEntropy(), labels, lambda x, y: _bce(BinaryCrossEntropy(), x, y)),
        (CrossEntropy(), labels[:, 0].astype("int32"), lambda x, y: F.cross_entropy(x, y.long())),
    ]
    for loss, y, reference in cases:
        joint = _Function(DeriveBackward(["x"])(AppendLoss(loss)(identity)))
        value, gradient = joint(x, y)
        inputs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        wanted = reference(-inputs, torch.tensor(y).double())
        wanted.backward()
        assert float(value) == pytest.approx(wanted.item(), rel=1e-6)
        np.testing.assert_allclose(gradient, inputs.grad, rtol=1e-5, atol=1e-7)


def test_a_small_bce_is_not_rounded_away():
    """log(1 + exp(-20)) = 2.06e-9 is below what 1 + exp(-20) can hold in float32."""
    mod = main_of(lambda bb, x: bb.emit(relax.op.negative(x)), {"x": (1,)}, "float32")
    (value,) = run(
        AppendLoss(BinaryCrossEntropy())(mod), np.full(1, -20, "float32"), np.ones(1, "float32")
    )
    assert float(value) == pytest.approx(np.log1p(np.exp(-20.0)), rel=1e-5)


def test_other_outputs_stay_behind_the_loss():
    mod = main_of(lambda bb, x: (bb.emit(x * x), bb.emit(x + x)), {"x": (2, 3)}, "float32")
    x = np.ones((2, 3), "float32")
    loss, rest = run(AppendLoss(MeanSquaredError())(mod), x, np.zeros((2, 3), "float32"))
    assert float(loss) == 1.0
    np.testing.assert_array_equal(rest, 2 * x)


@pytest.mark.parametrize(
    ("loss", "shape", "message"),
    [
        (Contrastive(), (4, 5), r"takes \(batch, batch\) similarities, and the model returns"),
        (Contrastive(), (4, 4, 4), r"the model returns \(4, 4, 4\)"),
        (CrossEntropy(), (4,), r"takes \(batch, …, classes\) logits, and the model returns \(4,\)"),
    ],
)
def test_an_output_that_the_loss_does_not_fit(loss, shape, message):
    with pytest.raises(PockError, match=message):
        AppendLoss(loss)(_model(loss, shape, "float32"))

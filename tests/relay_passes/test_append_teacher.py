"""AppendTeacher: the original model beside the one that learns."""

import numpy as np
import tvm
from pass_checks import main_of, operators, run
from tvm import relax

from pock_tvm.losses import Distillation
from pock_tvm.relay_passes.append_loss import AppendLoss
from pock_tvm.relay_passes.append_teacher import AppendTeacher
from pock_tvm.relay_passes.derive_backward import DeriveBackward

SHAPES = {"v": (3, 4), "w": (4, 5), "x": (2, 3)}


def _model():
    """Two layers; the first is frozen."""

    def build(bb, v, w, x):
        hidden = bb.emit(relax.op.tanh(bb.emit(relax.op.matmul(x, v))))
        return bb.emit(relax.op.matmul(hidden, w))

    return main_of(build, SHAPES, "float64")


def _arrays(*names):
    rng = np.random.default_rng(0)
    drawn = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    drawn["teacher.w"] = rng.standard_normal(SHAPES["w"])
    return [drawn[n] for n in names]


def test_the_teacher_reads_copies_and_shares_what_does_not_learn():
    model = _model()
    untouched = model.clone()
    after = AppendTeacher(model, ["w"])(model)
    tvm.ir.assert_structural_equal(model, untouched)
    relax.analysis.well_formed(after)
    assert [p.name for p in after["main"].params] == ["v", "w", "x", "teacher.w"]
    v, w, x, original = _arrays("v", "w", "x", "teacher.w")
    student, teacher = run(after, v, w, x, original)
    np.testing.assert_allclose(student, np.tanh(x @ v) @ w, rtol=1e-12)
    np.testing.assert_allclose(teacher, np.tanh(x @ v) @ original, rtol=1e-12)
    shared = relax.transform.EliminateCommonSubexpr()(after)
    assert operators(after).count("tanh") == 2
    assert operators(shared).count("tanh") == 1
    assert operators(shared).count("matmul") == 3


def test_running_statistics_stay_between_the_two_outputs():
    def with_statistics(bb, w, x):
        y = bb.emit(relax.op.matmul(x, w))
        return y, bb.emit(relax.op.sum(y))

    shapes = {"w": (3, 5), "x": (2, 3)}
    teacher = main_of(lambda bb, w, x: bb.emit(relax.op.matmul(x, w)), shapes, "float64")
    after = AppendTeacher(teacher, ["w"])(main_of(with_statistics, shapes, "float64"))
    rng = np.random.default_rng(0)
    x, w, original = (rng.standard_normal(s) for s in ((2, 3), (3, 5), (3, 5)))
    student, statistic, logits = run(after, w, x, original)
    np.testing.assert_allclose(student, x @ w)
    np.testing.assert_allclose(statistic, (x @ w).sum())
    np.testing.assert_allclose(logits, x @ original)


def test_no_gradient_flows_into_the_teacher():
    labelled = AppendLoss(Distillation())(AppendTeacher(_model(), ["w"])(_model()))
    joint = relax.transform.EliminateCommonSubexpr()(DeriveBackward(["w"])(labelled))
    # one product is the gradient of w: x̄, and the teacher's gradient, would be others
    assert operators(joint).count("matmul") == 3 + 1

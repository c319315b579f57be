"""AppendOptimizer: the updates, their names, and that each stands right after its gradient."""

import numpy as np
import pytest
import torch
import tvm
from pass_checks import main_of, operators, run
from tvm import relax

from pock_tvm.optimizers import SGD, AdamW
from pock_tvm.relay_passes.append_optimizer import AppendOptimizer

SHAPES = {"w": (3, 4), "b": (4,)}
RATE = 0.1
CASES = {
    "sgd": (SGD(), lambda p: torch.optim.SGD(p, RATE)),
    "weight decay": (SGD(weight_decay=0.1), lambda p: torch.optim.SGD(p, RATE, weight_decay=0.1)),
    "momentum": (
        SGD(momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, RATE, 0.9, weight_decay=0.1),
    ),
    "nesterov": (
        SGD(momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, RATE, 0.9, nesterov=True),
    ),
    "adamw": (
        AdamW(beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, RATE, (0.8, 0.95), 1e-6, 0.1),
    ),
}


def _gradients():
    """A loss and the gradients of w and b, which here are w² and b²."""

    def build(bb, w, b):
        gw, gb = bb.emit(w * w), bb.emit(b * b)
        return bb.emit(relax.op.sum(gw)), gw, gb

    return main_of(build, SHAPES, "float64")


@pytest.mark.parametrize("name", CASES)
def test_three_steps_follow_pytorch(name):
    optimizer, make_reference = CASES[name]
    before = _gradients()
    untouched = before.clone()
    after = AppendOptimizer(optimizer, ["w", "b"])(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises

    params = after["main"].params
    names = [p.name for p in params]
    updates = [str(n) for n in after["main"].attrs["updates"]]
    assert (names[:2], names[-1]) == (["w", "b"], "learning_rate")
    assert set(names[2:-1]) == set(updates[2:])
    assert updates[:2] == ["w", "b"]
    per_weight = [n for n in updates[2:] if not n.startswith("optimizer.correction")]
    assert set(per_weight) == {f"optimizer.{s}.{w}" for s in optimizer.slots for w in ("w", "b")}

    generator = np.random.default_rng(0)
    state = {p.name: np.zeros([int(d) for d in p.ty.shape]) for p in params}
    state["learning_rate"] = np.asarray(RATE)
    state.update({n: generator.uniform(0.5, 1.0, shape) for n, shape in SHAPES.items()})
    weights = [torch.nn.Parameter(torch.tensor(state[n])) for n in SHAPES]
    reference = make_reference(weights)
    for _ in range(3):
        for weight in weights:
            weight.grad = weight.detach() ** 2
        reference.step()
        _, *new = run(after, *(state[n] for n in names))
        state.update(zip(updates, new, strict=True))
        for n, weight in zip(SHAPES, weights, strict=True):
            np.testing.assert_allclose(state[n], weight.detach().numpy(), rtol=1e-9)


def test_an_update_stands_right_after_its_gradient():
    after = AppendOptimizer(SGD(), ["w", "b"])(_gradients())
    step = ["multiply", "subtract"]
    assert operators(after) == ["multiply", *step, "multiply", *step, "sum"]


def test_gradients_are_kept_for_debugging():
    after = AppendOptimizer(SGD(), ["w", "b"], keep_gradients=True)(_gradients())
    w, b = np.full((3, 4), 2.0), np.full(4, 3.0)
    results = run(after, w, b, np.asarray(RATE))
    np.testing.assert_array_equal(results[-2], w * w)
    np.testing.assert_array_equal(results[-1], b * b)

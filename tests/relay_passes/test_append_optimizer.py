"""AppendOptimizer: the updates, their names, and that each stands right after its gradient."""

import numpy as np
import pytest
import torch
import tvm
from optimizer_references import CASES, RATE
from pass_checks import main_of, operators, run
from tvm import relax

from pock_tvm.clipping import ClipGlobalNorm, ClipTensorNorm, ClipValue
from pock_tvm.optimizers import OPTIMIZERS, SGD, Adam, AdamW
from pock_tvm.relay_passes.append_optimizer import AppendOptimizer
from pock_tvm.relay_passes.gradient_transforms import clipping_transform
from pock_tvm.relay_passes.operators import LOWERINGS

SHAPES = {"w": (3, 4), "b": (4,), "k": (2, 3, 5, 1)}
SIGNS = {"w": 1.0, "b": -1.0, "k": np.sign(np.random.default_rng(1).uniform(-1, 1, SHAPES["k"]))}
TOLERANCES = {"float64": 1e-6, "float32": 1e-5}


def _gradients(dtype="float64", shapes=SHAPES):
    """A loss and the gradients of w, b and k, which here are ±w², so that none comes near 0."""

    def build(bb, **weights):
        gradients = [
            bb.emit(relax.const(SIGNS[n], dtype) * bb.emit(w * w)) for n, w in weights.items()
        ]
        return bb.emit(relax.op.sum(gradients[0])), *gradients

    return main_of(build, shapes, dtype)


def _gradient_of(name, w):
    return torch.as_tensor(SIGNS[name], dtype=w.dtype) * (w * w)


def _start(mod, dtype, rate=RATE):
    """The first value of every parameter of ``mod``: weights drawn, state zero."""
    generator = np.random.default_rng(0)
    params = mod["main"].params
    state = {p.name: np.zeros([int(d) for d in p.ty.shape], str(p.ty.dtype)) for p in params}
    state["learning_rate"] = np.asarray(rate, dtype)
    for name, shape in SHAPES.items():
        state[name] = generator.uniform(0.3, 1.0, shape).astype(dtype)
    return state


class _Compiled:
    """A module compiled once, for many steps."""

    def __init__(self, mod):
        self.params = [p.name for p in mod["main"].params]
        self.updates = [str(n) for n in mod["main"].attrs["updates"]]
        legal = relax.transform.LegalizeOps(LOWERINGS)(mod)
        target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
        self.vm = relax.VirtualMachine(tvm.compile(legal, target=target), tvm.cpu())

    def advance(self, state):
        """Do one step on ``state`` in place."""
        given = (tvm.runtime.tensor(state[name]) for name in self.params)
        _, *new = (r.numpy() for r in self.vm["main"](*given))
        state.update(zip(self.updates, new, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", CASES)
def test_ten_steps_follow_the_reference(name, dtype):
    optimizer, make_reference = CASES[name]
    before = _gradients(dtype)
    untouched = before.clone()
    after = AppendOptimizer(optimizer, list(SHAPES))(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises

    names = [p.name for p in after["main"].params]
    updates = [str(n) for n in after["main"].attrs["updates"]]
    assert names[:3] == updates[:3] == list(SHAPES)
    assert names[-1] == "learning_rate"
    assert set(names[3:-1]) == set(updates[3:])
    wanted = {
        f"optimizer.{slot}.{w}": shape
        for w, weight_shape in SHAPES.items()
        for slot, shape in optimizer.slots_of(weight_shape).items()
    }
    wanted |= {f"optimizer.{name}": () for name in optimizer.shared}
    state = _start(after, dtype)
    assert {n: state[n].shape for n in updates[3:]} == wanted

    weights = [torch.nn.Parameter(torch.tensor(state[n])) for n in SHAPES]
    reference = make_reference(weights)
    first = {n: state[n].copy() for n in SHAPES}
    compiled = _Compiled(after)
    for _ in range(10):
        for n, weight in zip(SHAPES, weights, strict=True):
            weight.grad = _gradient_of(n, weight.detach())
        reference.step()
        compiled.advance(state)
    for n, weight in zip(SHAPES, weights, strict=True):
        assert np.abs(state[n] - first[n]).min() > 1e-3  # each element did learn
        np.testing.assert_allclose(state[n], weight.detach().numpy(), rtol=TOLERANCES[dtype])


def test_every_optimizer_has_a_reference():
    assert {optimizer.name for optimizer, _ in CASES.values()} == set(OPTIMIZERS)


def test_decay_of_matrices_only():
    mod = AppendOptimizer(AdamW(weight_decay=0.5, decay_matrices_only=True), list(SHAPES))(
        _gradients()
    )
    plain = AppendOptimizer(AdamW(weight_decay=0.0), list(SHAPES))(_gradients())
    decayed, bare = _start(mod, "float64"), _start(plain, "float64")
    first = decayed["w"].copy()
    _Compiled(mod).advance(decayed)
    _Compiled(plain).advance(bare)
    np.testing.assert_array_equal(decayed["b"], bare["b"])
    np.testing.assert_allclose(decayed["w"], bare["w"] - RATE * 0.5 * first, rtol=1e-12)


def test_an_update_stands_right_after_its_gradient():
    after = AppendOptimizer(SGD(), ["w", "b"])(_gradients(shapes={"w": (3, 4), "b": (4,)}))
    gradient, step = ["multiply", "multiply"], ["multiply", "subtract"]
    assert operators(after) == [*gradient, *step, *gradient, *step, "sum"]


def test_updates_wait_for_all_gradients_where_a_transform_needs_them():
    transforms = [clipping_transform(ClipGlobalNorm(1.0))]
    shapes = {"w": (3, 4), "b": (4,)}
    after = AppendOptimizer(SGD(), ["w", "b"], transforms=transforms)(_gradients(shapes=shapes))
    assert operators(after)[:4] == ["multiply"] * 4
    assert operators(after)[-5:] == [*["multiply", "subtract"] * 2, "sum"]


def _torch_clip_tensor_norm(parameters, limit):
    for p in parameters:
        torch.nn.utils.clip_grad_norm_([p], limit)


@pytest.mark.parametrize(
    ("clipping", "reference"),
    [
        (ClipValue(0.2), lambda p: torch.nn.utils.clip_grad_value_(p, 0.2)),
        (ClipTensorNorm(0.4), lambda p: _torch_clip_tensor_norm(p, 0.4)),
        (ClipTensorNorm(0.9), lambda p: _torch_clip_tensor_norm(p, 0.9)),  # one is above
        (ClipGlobalNorm(0.7), lambda p: torch.nn.utils.clip_grad_norm_(p, 0.7)),
        (ClipGlobalNorm(70.0), lambda p: torch.nn.utils.clip_grad_norm_(p, 70.0)),
    ],
)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_clipping_follows_pytorch(clipping, reference, dtype):
    transforms = [clipping_transform(clipping)]
    mod = AppendOptimizer(Adam(), list(SHAPES), transforms=transforms)(_gradients(dtype))
    state = _start(mod, dtype)
    weights = [torch.nn.Parameter(torch.tensor(state[n])) for n in SHAPES]
    optimizer = torch.optim.Adam(weights, RATE)
    compiled = _Compiled(mod)
    for _ in range(3):
        for n, weight in zip(SHAPES, weights, strict=True):
            weight.grad = _gradient_of(n, weight.detach())
        reference(weights)
        optimizer.step()
        compiled.advance(state)
    moments = [optimizer.state[w] for w in weights]
    for n, weight, moment in zip(SHAPES, weights, moments, strict=True):
        np.testing.assert_allclose(state[n], weight.detach(), rtol=TOLERANCES[dtype])
        # Adam's steps hardly depend on the scale of a gradient; its moments do.
        found = state[f"optimizer.moment1.{n}"]
        np.testing.assert_allclose(found, moment["exp_avg"], rtol=10 * TOLERANCES[dtype], atol=1e-7)


def test_gradients_are_kept_for_debugging():
    after = AppendOptimizer(
        SGD(),
        ["w", "b"],
        transforms=[clipping_transform(ClipValue(1e-3))],
        keep_gradients=True,
    )(_gradients(shapes={"w": (3, 4), "b": (4,)}))
    w, b = np.full((3, 4), 2.0), np.full(4, 3.0)
    results = run(after, w, b, np.asarray(RATE))
    np.testing.assert_array_equal(results[-2], w * w)
    np.testing.assert_array_equal(results[-1], -b * b)


def test_two_weights_may_have_one_gradient():
    """The biases on both sides of a residual addition do, once equal values are computed once."""

    def build(bb, w, v):
        gradient = bb.emit(w * v)
        return bb.emit(relax.op.sum(gradient)), gradient, gradient

    joint = AppendOptimizer(SGD(), ["w", "v"])(main_of(build, {"w": (3,), "v": (3,)}))
    w, v = np.array([1.0, 2, 3]), np.array([4.0, 5, 6])
    _, *updated = run(joint, w, v, np.array(0.5))
    np.testing.assert_allclose(updated, [w - 0.5 * w * v, v - 0.5 * w * v], rtol=1e-12)


def test_each_weight_keeps_the_gradient_that_it_shares():
    def build(bb, w, v):
        gradient = bb.emit(w * v)
        return bb.emit(relax.op.sum(gradient)), gradient, gradient

    shapes = {"w": (3,), "v": (3,)}
    joint = AppendOptimizer(SGD(), ["w", "v"], keep_gradients=True)(main_of(build, shapes))
    w, v = np.array([1.0, 2, 3]), np.array([4.0, 5, 6])
    *_, first, second = run(joint, w, v, np.array(0.5))
    np.testing.assert_array_equal([first, second], [w * v, w * v])
    kept = joint["main"].body.blocks[-1].bindings[-1].value.fields[-2:]
    assert not kept[0].same_as(kept[1])  # one name each

"""The whole path at full size against PyTorch: gradients, losses, what sparse schemes leave out.

The figures behind the verdicts: pytest -m slow tests/end_to_end --log-cli-level=info
"""

import fnmatch
import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from full_models import Reference, build_model, train_in_torch

from pock_tvm import Trainer
from pock_tvm import compile as compile_model
from pock_tvm.losses import CrossEntropy
from pock_tvm.optimizers import SGD
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.extract_step import extract_step
from pock_tvm.relay_passes.plan_arena import plan_arena
from pock_tvm.relay_passes.reorder_for_memory import reorder_for_memory
from pock_tvm.relay_passes.rewrite import bindings_of
from pock_tvm.update import parse_update

pytestmark = pytest.mark.slow
log = logging.getLogger(__name__)
STEPS = 5
VANISHING = "*.attention.k_lin.bias"
"""Softmax does not see a shift of all keys: this gradient is 0 but for rounding."""


@dataclass(frozen=True)
class Run:
    """Five steps; a float32 net of ReLU6 flips signs that float64 does not, hence its tolerance.

    The rates are small: PyTorch's own float32 losses must follow its float64 losses to 1e-5, or the
    comparison would say nothing. AdamW on the ReLU6 net can do that at no rate (a float32 weight
    does not hold a step of 1e-7), so there PyTorch counts in float32 for the losses.
    """

    model: str
    optimizer: str
    rate: float
    gradient_tolerance: float
    losses_in: torch.dtype = torch.float64


RUNS = (
    Run("mobilenet_v2", "sgd", 1e-7, 2e-2),
    Run("mobilenet_v2", "adamw", 1e-7, 2e-2, torch.float32),
    Run("mobilenet_v2_silu", "sgd", 3e-5, 1e-4),
    Run("mobilenet_v2_silu", "adamw", 1e-6, 1e-4),
    Run("distilbert", "sgd", 1e-2, 1e-4),
    Run("distilbert", "adamw", 1e-5, 1e-4),
)


@dataclass(frozen=True)
class Outcome:
    run: Run
    losses: list[float]
    gradients: dict[str, np.ndarray]
    in_float64: Reference
    torch_losses: list[float]


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: f"{run.model}-{run.optimizer}")
def outcome(request, tmp_path_factory):
    run = request.param
    model = build_model(run.model)
    folder = tmp_path_factory.mktemp("full") / "artifact"
    compile_model(model.imported(), folder, optimizer=run.optimizer, keep_gradients=True)
    gradients = {}
    losses = []
    with Trainer(folder) as trainer:
        for _ in range(STEPS):
            losses.append(trainer.step(model.inputs.numpy(), model.labels.numpy(), run.rate))
            gradients = gradients or {
                name: _gradient(trainer, name) for name, _ in model.module.named_parameters()
            }
    reference = train_in_torch(model, run.optimizer, run.rate, STEPS, torch.float64)
    torch_losses = reference.losses
    if run.losses_in != torch.float64:
        again = train_in_torch(model, run.optimizer, run.rate, STEPS, run.losses_in)
        torch_losses = again.losses
    return Outcome(run, losses, gradients, reference, torch_losses)


def _gradient(trainer, name):
    axes = trainer.description.tensor(name).axes
    stored = trainer.tensor(f"gradient.{name}", original_layout=False)
    return stored if axes is None else stored.transpose(np.argsort(axes))


def test_every_gradient_is_pytorchs(outcome):
    expected = outcome.in_float64.gradients
    assert outcome.gradients.keys() == expected.keys()
    errors = {
        name: np.linalg.norm(outcome.gradients[name] - value) / np.linalg.norm(value)
        for name, value in expected.items()
        if not fnmatch.fnmatchcase(name, VANISHING)
    }
    worst = sorted(errors.items(), key=lambda item: -item[1])[:5]
    log.info("%s: %d gradients, worst %s", outcome.run, len(errors), worst[0])
    assert worst[0][1] <= outcome.run.gradient_tolerance, worst


def test_vanishing_gradients_vanish(outcome):
    names = fnmatch.filter(outcome.gradients, VANISHING)
    assert bool(names) == (outcome.run.model == "distilbert")
    for name in names:
        scale = np.linalg.norm(outcome.gradients[name.replace("bias", "weight")])
        assert np.linalg.norm(outcome.gradients[name]) <= 1e-6 * scale, name


def test_losses_follow_pytorchs(outcome):
    ours, theirs = np.array(outcome.losses), np.array(outcome.torch_losses)
    worst = np.abs(ours / theirs - 1).max()
    log.info("%s: losses %s, off by %.1e at worst", outcome.run, outcome.losses, worst)
    assert worst <= 1e-5
    # The steps must have moved the loss by far more than what they may differ by.
    assert abs(theirs[-1] - theirs[0]) > 5e-3 * theirs[0]


def _joint_graph(imported, update):
    known = {name: imported.parameters[name] for name in imported.buffers}
    learnable = [name for name in imported.parameters if name not in imported.buffers]
    trainable = parse_update(update, learnable).select(learnable)
    canonical = pipeline.canonicalize("frozen", known)(imported.mod)
    return pipeline.train(CrossEntropy(), SGD(), trainable, {})(canonical), trainable


@pytest.fixture(scope="module")
def mobilenet_v2():
    return build_model("mobilenet_v2").imported()


@pytest.mark.parametrize(
    ("update", "weight_gradients", "data_gradients"),
    [
        ("full", 52, 51),
        ("bias", 0, 51),
        ("head", 0, 0),
        ("mobilenet_v2.conv_stem.first_conv.convolution.weight", 1, 51),
    ],
)
def test_sparse_is_sparse(mobilenet_v2, update, weight_gradients, data_gradients):
    joint, _ = _joint_graph(mobilenet_v2, update)
    count = Counter(
        binding.value.op.name
        for binding in bindings_of(joint["main"])
        if hasattr(getattr(binding.value, "op", None), "name")
    )
    assert count["relax.nn.conv2d"] == 52
    assert count["pock.conv2d_weight_grad"] == weight_gradients
    assert count["pock.conv2d_data_grad"] == data_gradients


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["mobilenet_v2", "distilbert"])
def test_arena_is_near_its_lower_bound(name, batch):
    imported = build_model(name).imported(batch)
    joint, trainable = _joint_graph(imported, "full")
    regions = {**dict.fromkeys(imported.parameters, "frozen"), **dict.fromkeys(trainable, "state")}
    step = extract_step(pipeline.lower()(joint), "train_step", regions, ("loss",)).step
    plan = plan_arena(reorder_for_memory(step), {})
    log.info("%s batch %d: %d of %d bytes", name, batch, plan.arena_bytes, plan.lower_bound_bytes)
    assert plan.arena_bytes <= 1.15 * plan.lower_bound_bytes


@pytest.mark.parametrize("name", ["mobilenet_v2", "distilbert"])
def test_frozen_weights_keep_their_bytes(name, tmp_path):
    model = build_model(name)
    compiled = compile_model(model.imported(), tmp_path / "artifact", update="bias")
    file_before = compiled.artifact.weights.read_bytes()
    tensors = compiled.artifact.description.tensors
    weights = [tensor for tensor in tensors if tensor.role in ("weight", "statistic")]
    with Trainer(tmp_path / "artifact") as trainer:
        before = {t.name: trainer.tensor(t.name) for t in weights}
        for _ in range(3):
            trainer.step(model.inputs.numpy(), model.labels.numpy(), 1e-3)
        after = {t.name: trainer.tensor(t.name) for t in weights}
    changed = {n for n in before if before[n].tobytes() != after[n].tobytes()}
    trainable = {t.name for t in weights if t.trainable}
    assert trainable
    assert len(trainable) < len(weights)
    # A key's bias has no gradient to speak of, so it may move or stay.
    vanishing = {n for n in trainable if fnmatch.fnmatchcase(n, VANISHING)}
    assert changed - vanishing == trainable - vanishing
    assert compiled.artifact.weights.read_bytes() == file_before

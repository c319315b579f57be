"""Frozen convolutions by Winograd's tiles: the artifact learns the same and exports what came."""

import numpy as np
import pytest
import torch
from winograd_net import BATCH, CLASSES, build

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.compilation import winograd
from pock_tvm.frontend import load_model

STEPS, RATE = 4, 0.05
UPDATE = "stem.weight,head.*"
ERROR = 32 * 2.0**-24 * (9 * 48) ** 0.5
"""Expected of a convolution, relative to its result: where the signs of roundings and of numbers
are random, F(4x4) has 31.4 times the error of a sum of 9 * 48 products, the root of the sum of
squares of its matrices. Twice two convolutions, and four deviations: the tail of 864 elements."""
FROZEN = ("first.weight", "second.weight")


@pytest.fixture(scope="module")
def model():
    return load_model("winograd_net:build", BATCH)


@pytest.fixture(scope="module")
def direct(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("direct")
    return pock_tvm.compile(model, folder / "net", update=UPDATE, winograd="off")


@pytest.fixture(scope="module", params=[2, 4])
def tiled(request, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "tile_outputs", lambda *_: request.param)
        return pock_tvm.compile(model, folder / "net", update=UPDATE)


@pytest.fixture(scope="module")
def samples():
    generator = np.random.default_rng(1)
    pictures = generator.standard_normal((STEPS, BATCH, 3, 11, 13)).astype("float32")
    return pictures, generator.integers(0, CLASSES, (STEPS, BATCH)).astype("int32")


def test_transforms_stand_in_for_the_weights(direct, tiled):
    assert (direct.transformed, tiled.transformed) == (0, len(FROZEN))
    assert not {t.name for t in tiled.artifact.description.tensors} & set(FROZEN)
    kernels = [call["kernel"] for call in tiled.artifact.plan()["train_step"]["calls"]]
    assert sum(k.startswith("winograd_conv2d") for k in kernels) == 2 * len(FROZEN)


def test_learns_what_pytorch_learns_in_float64(tiled, samples):
    net = build()[0].double()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in ("stem.weight", "head.weight", "head.bias"))
    chosen = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(chosen, lr=RATE)
    before = net.stem.weight.detach().numpy().copy()
    with Trainer(tiled.artifact.directory, threads=1) as trainer:
        for x, y in zip(*samples, strict=True):
            optimizer.zero_grad()
            logits = net(torch.from_numpy(x).double())
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y).long())
            loss.backward()
            optimizer.step()
            np.testing.assert_allclose(trainer.step(x, y, RATE), loss.item(), rtol=4 * ERROR)
        learned = net.stem.weight.detach().numpy()
        moved = np.abs(learned - before).max()
        limit = 4 * 4 * ERROR * moved + np.abs(learned) * 2.0**-24 * STEPS
        got = trainer.tensor("stem.weight")
        assert (np.abs(got - learned) <= limit).all()


def test_exports_the_weights_that_came(model, tiled, tmp_path):
    from click.testing import CliRunner
    from safetensors.numpy import load_file

    from pock_tvm.cli import pock

    words = ("export", str(tiled.artifact.directory), "-o", str(tmp_path / "out.safetensors"))
    assert CliRunner().invoke(pock, words, catch_exceptions=False).exit_code == 0
    with Trainer(tiled.artifact.directory) as trainer:
        trainer.export(tmp_path / "trainer.safetensors")
    for file in ("out", "trainer"):
        exported = load_file(tmp_path / f"{file}.safetensors")
        for name in model.parameters:
            np.testing.assert_array_equal(exported[name], model.parameters[name])


def test_a_memory_budget_keeps_the_weights(model, direct, monkeypatch, tmp_path):
    monkeypatch.setattr(winograd, "tile_outputs", lambda *_: 4)
    budget = 1 << 30
    made = pock_tvm.compile(model, tmp_path / "net", update=UPDATE, memory_budget=budget)
    assert made.transformed == 0
    assert made.plan.frozen_bytes == direct.plan.frozen_bytes

"""Dropout from a PyTorch model to the trained artifact: masks, gradients, threads, resuming."""

import shutil
import subprocess

import dropout_net
import numpy as np
import philox
import pytest
import torch
from torch.nn.functional import cross_entropy

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.errors import UnsupportedModelError
from pock_tvm.frontend import load_model

BATCH, TOKENS = dropout_net.BATCH, 16
RATE = 0.1


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The net with and without dropout."""
    folder = tmp_path_factory.mktemp("dropout")
    model = load_model("dropout_net:build", BATCH)
    for name, on in (("on", True), ("off", False)):
        compiled = pock_tvm.compile(model, folder / name, dropout=on, keep_gradients=True)
        assert compiled.report()["dropouts"] == 5
        assert compiled.report()["dropout"] == on
    return folder


@pytest.fixture(scope="module")
def samples():
    generator = np.random.default_rng(0)
    pixels = generator.standard_normal((40, 1, 4, 4), "float32")
    return pixels, generator.integers(0, dropout_net.CLASSES, 40)


def torch_forward(module, pixels, masks):
    """The net's forward with given masks, in the order of the streams."""
    channels, early, attention, hidden, alpha = (torch.tensor(m) for m in masks)
    y = torch.relu(module.stem(pixels) * channels[:, :, None, None] / 0.75)
    tokens = torch.tanh(module.hidden(y.flatten(2).transpose(1, 2))) * early / 0.9
    scores = tokens @ tokens.transpose(1, 2) / dropout_net.FEATURES**0.5
    mixed = (scores.softmax(-1) * attention / 0.8) @ tokens * hidden / 0.5
    floor = -1.7580993408473766  # as PyTorch's own alpha_dropout computes it
    scale = 1 / ((floor**2 * 0.3 + 1) * 0.7) ** 0.5
    drawn = mixed.mean(1) * alpha * scale + (~alpha * floor - 0.3 * floor) * scale
    return module.head(drawn)


def test_losses_and_gradients_are_those_of_pytorch_with_the_same_masks(artifacts, samples):
    pixels, labels = samples[0][:BATCH], samples[1][:BATCH]
    module, _ = dropout_net.build()
    tokens = (BATCH, TOKENS, dropout_net.FEATURES)
    shapes = [(BATCH, 8), tokens, (BATCH, TOKENS, TOKENS), tokens, (BATCH, dropout_net.FEATURES)]
    chances = (0.25, 0.1, 0.2, 0.5, 0.3)
    optimizer = torch.optim.SGD(module.parameters(), RATE)
    with Trainer(artifacts / "on") as trainer:
        for draw in range(3):
            masks = [
                philox.kept(0, draw, stream, shape, p)
                for stream, (shape, p) in enumerate(zip(shapes, chances, strict=True))
            ]
            loss = cross_entropy(
                torch_forward(module, torch.tensor(pixels), masks), torch.tensor(labels)
            )
            optimizer.zero_grad()
            loss.backward()
            assert trainer.step(pixels, labels, RATE) == pytest.approx(loss.item(), abs=1e-5)
            for name, parameter in module.named_parameters():
                got = trainer.tensor(f"gradient.{name}", original_layout=False)
                weight = trainer.description.tensor(name)
                wanted = parameter.grad.numpy().transpose(weight.axes or range(got.ndim))
                np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=name)
            optimizer.step()


def test_prediction_and_evaluation_never_drop(artifacts, samples):
    pixels, labels = samples
    module, _ = dropout_net.build()
    with torch.no_grad():
        wanted = module.eval()(torch.tensor(pixels))
    for name in ("on", "off"):
        with Trainer(artifacts / name) as trainer:
            np.testing.assert_allclose(trainer.predict(pixels), wanted.numpy(), atol=1e-5)
            loss = cross_entropy(wanted, torch.tensor(labels)).item()
            assert trainer.evaluate(pixels, labels).loss == pytest.approx(loss, abs=1e-5)


def test_it_is_off_unless_asked_for(artifacts, samples):
    pixels, labels = samples[0][:BATCH], samples[1][:BATCH]
    with Trainer(artifacts / "off") as trainer:
        wanted = trainer.evaluate(pixels, labels).loss
        assert trainer.step(pixels, labels, 0.0) == pytest.approx(wanted, abs=1e-6)
        assert "random.counter" not in {t.name for t in trainer.description.tensors}
    with Trainer(artifacts / "on") as trainer:
        assert not trainer.description.tensor("random.counter").trainable
        losses = [trainer.step(pixels, labels, 0.0) for _ in range(5)]
        assert max(losses) - min(losses) > 1e-2  # every batch drops something else


def weights_after(artifact, samples, *, steps, threads=2, seed=5, **options):
    with Trainer(artifact, threads=threads) as trainer:
        losses = trainer.fit(*samples, steps=steps, learning_rate=RATE, seed=seed, **options)
        state = {
            t.name: trainer.tensor(t.name)
            for t in trainer.description.tensors
            if t.region == "state"
        }
    return losses, state


def test_a_resumed_run_drops_what_the_whole_run_would_have(artifacts, samples, tmp_path):
    losses, state = weights_after(artifacts / "on", samples, steps=6)
    saved = tmp_path / "net.ckpt"
    first, _ = weights_after(artifacts / "on", samples, steps=4, checkpoint=saved)
    rest, resumed = weights_after(artifacts / "on", samples, steps=6, checkpoint=saved, resume=True)
    assert first + rest == losses
    np.testing.assert_array_equal(resumed["random.counter"], [5, 6])
    for name, value in state.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


def test_masks_follow_the_seed_and_nothing_else(artifacts, samples):
    losses, _ = weights_after(artifacts / "on", samples, steps=3, threads=1)
    again, _ = weights_after(artifacts / "on", samples, steps=3, threads=2)
    other, _ = weights_after(artifacts / "on", samples, steps=3, seed=6)
    assert again == losses
    assert other != losses


def test_a_model_without_dropout_cannot_turn_it_on(tmp_path):
    model = load_model("small_net:build", 2)
    with pytest.raises(UnsupportedModelError, match="has no dropout to turn on"):
        pock_tvm.compile(model, tmp_path / "net", dropout=True)
    assert not (tmp_path / "net").exists()


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="needs qemu-aarch64")
def test_another_machine_draws_the_same_masks(artifacts, samples, tmp_path):
    model = load_model("dropout_net:build", BATCH)
    board = pock_tvm.compile(model, tmp_path / "pi", target="raspberry-pi-4", dropout=True).artifact
    write_dataset(tmp_path / "data", board.description, *samples)
    line = ["qemu-aarch64", board.executable, "train", "--weights", board.weights, "--lr", RATE]
    line += ["--data", tmp_path / "data", "--steps", 4, "--seed", 5, "--threads", 2]
    done = subprocess.run([str(w) for w in line], capture_output=True, text=True, check=True)
    on_board = [float(text.split()[3]) for text in done.stdout.splitlines()[:-1]]
    with Trainer(artifacts / "on") as trainer:
        on_host = trainer.fit(*samples, steps=4, learning_rate=RATE, seed=5)
    # a mask of another seed moves a loss by 1e-2
    np.testing.assert_allclose(on_board, on_host, rtol=1e-5)

"""Losses of all kinds of labels through the data file, Trainer and the C program."""

import json
import subprocess

import numpy as np
import pytest
import small_net
from safetensors.numpy import load_file
from scipy.special import log_softmax

from pock_tvm import PockError, Trainer
from pock_tvm.artifact.dataset_file import read_dataset, write_dataset

BATCH = small_net.CLASSES
RATE, STEPS = 0.05, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import pock_tvm
    from pock_tvm.frontend import load_model

    folder = tmp_path_factory.mktemp("contrastive") / "net"
    model = load_model("small_net:build", BATCH)
    pock_tvm.compile(model, folder, loss="contrastive", update="classifier.weight", executable=True)
    return folder


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).standard_normal((2 * BATCH + 3, 1, 8, 8), "float32")


def _run(folder, command, where, *words):
    """Run the C program on the data file in ``where``; return what it prints."""
    line = [folder / "pock_train", command, "--weights", folder / "weights.safetensors"]
    line += ["--data", where / "data", *words]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_c_program_trains_and_measures_as_the_trainer(folder, pixels, tmp_path):
    with Trainer(folder) as trainer:
        write_dataset(tmp_path / "data", trainer.description, pixels)
        stored = read_dataset(tmp_path / "data", trainer.description)
        assert list(stored) == [small_net.INPUT]
        count = len(pixels)
        drawn = [np.arange(s * BATCH, (s + 1) * BATCH) % count for s in range(STEPS)]
        wanted = [np.float32(trainer.step(pixels[rows], None, RATE)) for rows in drawn]
        measured = trainer.evaluate(pixels)
        trainer.save_checkpoint(tmp_path / "checkpoint")
    assert measured.accuracy is None
    assert measured.samples == 2 * BATCH

    *steps, _ = _run(folder, "train", tmp_path, "--in-order", "--steps", STEPS, "--lr", RATE)
    assert [np.float32(line.split()[3]) for line in steps] == wanted
    (line,) = _run(folder, "evaluate", tmp_path, "--resume", tmp_path / "checkpoint")
    found = json.loads(line)
    assert found["loss"] == pytest.approx(measured.loss, rel=1e-6)
    assert (found["samples"], found["accuracy"]) == (2 * BATCH, None)
    assert len(_run(folder, "predict", tmp_path)) == len(pixels) + 1


@pytest.mark.parametrize("loss", ["bce:pos_weight=2", "distillation:ignore_index=1"])
def test_a_tail_shorter_than_a_batch_is_measured_exactly(loss, pixels, tmp_path):
    import pock_tvm
    from pock_tvm.frontend import load_model

    # more classes than samples in the tail, and a tail in which one label is ignored
    model = load_model("small_net:build", 4)
    words = {"loss": loss, "update": "classifier.bias", "executable": True}
    pock_tvm.compile(model, tmp_path / "net", **words)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, small_net.CLASSES, len(pixels)).astype("int32")
    labels[-1], labels[-2] = 1, 3
    if loss.startswith("bce"):
        labels = rng.integers(0, 2, (len(pixels), small_net.CLASSES)).astype("float32")
    with Trainer(tmp_path / "net") as trainer:
        trainer.step(pixels[:4], labels[:4], 0.5)  # away from the teacher
        trainer.save_checkpoint(tmp_path / "checkpoint")
        measured = trainer.evaluate(pixels, labels)
        logits = trainer.predict(pixels).astype("float64")
        before = logits - trainer.tensor("classifier.bias")
        before += load_file(tmp_path / "net" / "weights.safetensors")["classifier.bias"]
        write_dataset(tmp_path / "data", trainer.description, pixels, labels)
    wanted, right = _reference(loss, logits, before, labels)
    assert measured.loss == pytest.approx(wanted, rel=1e-5)
    assert measured.accuracy == pytest.approx(right)
    (line,) = _run(tmp_path / "net", "evaluate", tmp_path, "--resume", tmp_path / "checkpoint")
    found = json.loads(line)
    assert found["loss"] == pytest.approx(wanted, rel=1e-5)
    assert found["accuracy"] == pytest.approx(right)


def _reference(loss, x, z, y):
    """Return loss and accuracy over all samples at once, in float64."""
    if loss.startswith("bce"):
        value = 2 * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
        return value.mean(), ((x > 0) == (y > 0.5)).mean()
    x, z, y = x[y != 1], z[y != 1], y[y != 1]
    hard = -log_softmax(x, -1)[np.arange(len(y)), y].mean()
    p, q = log_softmax(z / 2, -1), log_softmax(x / 2, -1)
    soft = (np.exp(p) * (p - q)).sum(-1).mean()
    return 0.5 * hard + 0.5 * 4 * soft, (x.argmax(-1) == y).mean()


def test_fewer_samples_than_a_batch_have_no_loss(folder, pixels, tmp_path):
    with Trainer(folder) as trainer:
        with pytest.raises(PockError, match=f"that of a whole batch: give at least {BATCH}"):
            trainer.evaluate(pixels[: BATCH - 1])
        write_dataset(tmp_path / "data", trainer.description, pixels[: BATCH - 1])
    line = [folder / "pock_train", "evaluate", "--weights", folder / "weights.safetensors"]
    line += ["--data", tmp_path / "data"]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the data holds fewer than {BATCH} samples" in done.stderr


def test_labels_are_refused_where_there_is_no_use_for_them(folder, pixels):
    with Trainer(folder) as trainer:
        for use in (
            lambda labels: trainer.step(pixels[:BATCH], labels, RATE),
            lambda labels: trainer.evaluate(pixels, labels),
            lambda labels: trainer.fit(pixels, labels, steps=1, learning_rate=RATE),
        ):
            with pytest.raises(PockError, match="the loss contrastive takes no labels"):
                use(np.zeros(len(pixels), int))

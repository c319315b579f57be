"""A loss without labels through the data file, Trainer and the C program."""

import json
import subprocess

import numpy as np
import pytest
import small_net

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

    def run(command, *words):
        line = [folder / "pock_train", command, "--weights", folder / "weights.safetensors"]
        line += ["--data", tmp_path / "data", *words]
        done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    *steps, _ = run("train", "--steps", STEPS, "--lr", RATE)
    assert [np.float32(line.split()[3]) for line in steps] == wanted
    (line,) = run("evaluate", "--resume", tmp_path / "checkpoint")
    found = json.loads(line)
    assert found["loss"] == pytest.approx(measured.loss, rel=1e-6)
    assert (found["samples"], found["accuracy"]) == (2 * BATCH, None)
    assert len(run("predict")) == len(pixels) + 1


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

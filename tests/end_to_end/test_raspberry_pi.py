"""The same recipe on another machine: built for a Raspberry Pi 4, run by an emulator."""

import re
import shutil
import subprocess

import numpy as np
import pytest
import small_net
import small_transformer

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.frontend import load_model

STEPS, RATE, RECORDS = 6, 0.05, 3

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None, reason="needs qemu-aarch64 (Debian package qemu-user)"
)


def samples_of(model, classes):
    generator = np.random.default_rng(0)
    (spec,) = model.inputs
    shape = (RECORDS * model.batch, *spec.shape[1:])
    if spec.dtype == "int32":
        inputs = generator.integers(0, small_transformer.VOCABULARY, shape).astype("int32")
    else:
        inputs = generator.standard_normal(shape).astype("float32")
    return inputs, generator.integers(0, classes, shape[:1]).astype("int32")


@needs_qemu
@pytest.mark.parametrize(
    "reference, module",
    [("small_net:build", small_net), ("small_transformer:build", small_transformer)],
)
def test_losses_agree_with_the_host(reference, module, tmp_path) -> None:
    model = load_model(reference, module.BATCH)
    pock_tvm.compile(model, tmp_path / "host")
    board = pock_tvm.compile(model, tmp_path / "pi", target="raspberry-pi-4").artifact
    inputs, labels = samples_of(model, module.CLASSES)
    write_dataset(tmp_path / "data", board.description, {module.INPUT: inputs}, labels)

    command = ["qemu-aarch64", board.executable, "train", "--in-order", "--weights", board.weights]
    options = ["--data", tmp_path / "data", "--steps", STEPS, "--lr", RATE, "--threads", 2]
    done = subprocess.run([str(a) for a in command + options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    on_board = [float(m) for m in re.findall(r"^step \d+ loss (\S+)$", done.stdout, re.M)]

    with Trainer(tmp_path / "host") as trainer:
        on_host = []
        for step in range(STEPS):
            at = (np.arange(model.batch) + step * model.batch) % len(labels)
            on_host.append(trainer.step(inputs[at], labels[at], RATE))
    np.testing.assert_allclose(on_board, on_host, rtol=1e-5)


def test_an_artifact_for_a_board_is_not_run_here(tmp_path) -> None:
    model = load_model("small_net:build", small_net.BATCH)
    pock_tvm.compile(model, tmp_path / "pi", target="raspberry-pi-4")
    with pytest.raises(pock_tvm.PockError, match="raspberry-pi-4"):
        Trainer(tmp_path / "pi")

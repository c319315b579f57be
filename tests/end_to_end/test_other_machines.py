"""The same recipe on other machines: an executable for each, run by an emulator."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import small_net

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.frontend import load_model
from pock_tvm.targets import get_target

STEPS, RATE, RECORDS = 10, 0.05, 3
TOLERANCE = 1e-4
"""Relative: sums in another order, over ten steps."""

MACHINES = ("raspberry-pi-zero",)
"""test_raspberry_pi.py has 64-bit Arm; the others wait minutes for zig to build a libc."""
MORE_MACHINES = (
    "hexagon-v66",
    "riscv64",
    "x86-64-v2",
    "raspberry-pi-3",
    "raspberry-pi-5",
    "android-arm64",
    "snapdragon-8",
    "apple-m1",
    "apple-m2",
    "hexagon-v68",
    "hexagon-v73",
)


def emulated(name):
    """Return a target that an emulator runs: of Apple's, its kernels under Linux."""
    spec = get_target(name)
    if spec.emulator:
        return spec
    return replace(
        spec,
        name=f"{name}-linux",
        tvm_options={**spec.tvm_options, "mtriple": "aarch64-linux-gnu"},
        zig_target="aarch64-linux-musl",
        emulator=("qemu-aarch64", "-cpu", "max"),
    )


def losses_of(artifact, spec, data, *words):
    command = [
        *spec.emulator,
        artifact.executable,
        "train",
        "--in-order",
        "--weights",
        artifact.weights,
    ]
    options = ["--data", data, "--lr", RATE, "--threads", 2, *words]
    done = subprocess.run([str(a) for a in command + options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(m) for m in re.findall(r"^step \d+ loss (\S+)$", done.stdout, re.M)]


@pytest.fixture(scope="module")
def model():
    return load_model("small_net:build", small_net.BATCH)


@pytest.fixture(scope="module")
def samples(model):
    generator = np.random.default_rng(0)
    shape = (RECORDS * model.batch, *model.inputs[0].shape[1:])
    inputs = generator.standard_normal(shape).astype("float32")
    return inputs, generator.integers(0, small_net.CLASSES, shape[:1]).astype("int32")


@pytest.fixture(scope="module")
def on_host(model, samples, tmp_path_factory):
    """Losses of this machine, its artifact, and its checkpoint after half of the steps."""
    folder = tmp_path_factory.mktemp("host")
    pock_tvm.compile(model, folder / "net", optimizer="adamw")
    losses = []
    with Trainer(folder / "net") as trainer:
        for step in range(STEPS):
            at = (np.arange(model.batch) + step * model.batch) % len(samples[1])
            losses.append(trainer.step(samples[0][at], samples[1][at], RATE))
            if step + 1 == STEPS // 2:
                trainer.save_checkpoint(folder / "half")
    return losses, folder / "net", folder / "half"


@pytest.mark.parametrize(
    "name", [*MACHINES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_MACHINES)]
)
def test_losses_agree_with_the_host(name, model, samples, on_host, tmp_path):
    spec = emulated(name)
    if not shutil.which(spec.emulator[0]):
        pytest.skip(f"needs {spec.emulator[0]} (Debian package qemu-user)")
    built = pock_tvm.compile(model, tmp_path / "net", target=spec, optimizer="adamw").artifact
    data = tmp_path / "data"
    write_dataset(data, built.description, {small_net.INPUT: samples[0]}, samples[1])
    losses = losses_of(built, spec, data, "--steps", STEPS)
    np.testing.assert_allclose(losses, on_host[0], rtol=TOLERANCE)
    assert len(losses) == STEPS


def test_a_checkpoint_goes_to_a_board_and_back(model, samples, on_host, tmp_path):
    spec = get_target("raspberry-pi-zero")
    if not shutil.which(spec.emulator[0]):
        pytest.skip(f"needs {spec.emulator[0]} (Debian package qemu-user)")
    _, host, half = on_host
    built = pock_tvm.compile(model, tmp_path / "net", target=spec, optimizer="adamw").artifact
    write_dataset(tmp_path / "data", built.description, {small_net.INPUT: samples[0]}, samples[1])
    # A checkpoint of single steps has drawn no samples: the board starts at the first ones again.
    words = ("--resume", half, "--steps", RECORDS, "--checkpoint", tmp_path / "board")
    on_board = losses_of(built, spec, tmp_path / "data", *words)
    with Trainer(host) as trainer:
        trainer.load_checkpoint(half)
        batches = np.split(np.arange(len(samples[1])), RECORDS)
        here = [trainer.step(samples[0][at], samples[1][at], RATE) for at in batches]
        trainer.load_checkpoint(tmp_path / "board")
        assert trainer.steps_done == STEPS // 2 + RECORDS
        trainer.save_checkpoint(tmp_path / "back")
    np.testing.assert_allclose(on_board, here, rtol=TOLERANCE)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "board").read_bytes()

"""Train over a real sshd; the checkpoint comes back and goes on elsewhere."""

import shutil
import subprocess

import fake
import numpy as np
import pytest

from pock_tvm import Trainer
from pock_tvm.artifact.checkpoint import read_checkpoint
from pock_tvm.artifact.dataset_file import write_dataset

pytestmark = pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs qemu-aarch64")
RUNNER = ("--runner", "qemu-aarch64", "--json")


@pytest.fixture
def data(tmp_path):
    x, labels = fake.samples(10)
    np.savez(tmp_path / "data.npz", x=x, labels=labels)
    return tmp_path / "data.npz"


@pytest.fixture
def run(pock, device, artifact, data):
    given = ("--ssh-config", device.config)
    place = device.at(device.folder / "net")
    pock("deploy", artifact.directory, place, *given, "--no-self-test", "--json")
    words = ("run-remote", artifact.directory, place, *given, "--data", data, *RUNNER)
    return lambda *more: pock(*words, *more)


@pytest.fixture(autouse=True)
def fitting_device(device):
    device.says_it_is("aarch64")


def here(artifact, folder, steps):
    """What the same executable prints on this machine."""
    write_dataset(folder / "here", artifact.description, *fake.samples(10))
    given = ("--weights", artifact.weights, "--data", folder / "here", "--lr", 0.05)
    command = ("qemu-aarch64", artifact.executable, "train", *given, "--steps", steps)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return [float(line.split()[3]) for line in done.stdout.splitlines()[:-1]]


def test_a_run_brings_its_checkpoint_back(run, artifact, tmp_path, data):
    saved = tmp_path / "saved"
    found = run("--lr", 0.05, "--steps", 6, "--checkpoint", saved)
    assert found["losses"] == here(artifact, tmp_path, 6)
    assert found["step"] == read_checkpoint(saved).step == 6
    assert found["sent_bytes"] == 64 + 10 * 28
    assert found["peak_bytes"] > 1 << 16
    again = run("--lr", 0.05, "--steps", 3, "--checkpoint", saved, "--resume")
    assert again["losses"] == here(artifact, tmp_path, 9)[6:]
    assert again["sent_bytes"] == saved.stat().st_size  # the samples lie there already
    assert read_checkpoint(saved).step == 9


def test_a_checkpoint_goes_from_host_to_device_and_back(run, artifact, tmp_path):
    host = fake.write(tmp_path / "host").directory
    saved = tmp_path / "saved"
    with Trainer(host) as trainer:
        trainer.step(*fake.samples(4), 0.05)
        trainer.save_checkpoint(saved)
        run("--lr", 0.05, "--steps", 2, "--checkpoint", saved, "--resume")
        trainer.load_checkpoint(saved)
        assert trainer.steps_done == 3


def test_epochs_are_counted_in_steps(run, tmp_path):
    found = run("--lr", 0.05, "--epochs", 2, "--checkpoint", tmp_path / "saved")
    assert len(found["losses"]) == 5  # 20 samples in batches of 4


def test_a_run_that_fails_keeps_what_was_there(run, tmp_path):
    saved = tmp_path / "saved"
    run("--lr", 0.05, "--steps", 1, "--checkpoint", saved)
    good = saved.read_bytes()
    message = run("--lr", 1e30, "--steps", 9, "--checkpoint", saved)
    assert "lower the learning rate" in message
    assert saved.read_bytes() == good


def test_a_checkpoint_that_does_not_arrive_whole_is_not_taken(run, device, tmp_path):
    saved = tmp_path / "saved"
    run("--lr", 0.05, "--steps", 1, "--checkpoint", saved)
    good = saved.read_bytes()
    device.tears_the_next_copy_after(100)
    message = run("--lr", 0.05, "--steps", 2, "--checkpoint", saved)
    assert "the checkpoint did not arrive" in message
    assert message.endswith("/net/result.ckpt")
    assert saved.read_bytes() == good
    assert not saved.with_name("saved.partial").exists()


def test_an_artifact_that_is_not_there_is_named(pock, device, artifact, data, tmp_path):
    place = device.at(device.folder / "elsewhere")
    given = ("--data", data, "--lr", 0.1, "--checkpoint", tmp_path / "saved", *RUNNER)
    message = pock("run-remote", artifact.directory, place, "--ssh-config", device.config, *given)
    assert f"does not hold this artifact: pock deploy {artifact.directory} {place}" in message

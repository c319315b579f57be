"""A process that is killed while it saves leaves a checkpoint that loads."""

import random
import subprocess
import time

import fake

from pock_tvm.artifact.checkpoint import read_checkpoint
from pock_tvm.artifact.dataset_file import write_dataset


def test_a_killed_run_can_always_be_resumed(artifact, tmp_path):
    data, saved = tmp_path / "data", tmp_path / "saved"
    write_dataset(data, artifact.description, *fake.samples(4))
    given = ("--weights", artifact.weights, "--data", data, "--lr", 1e-3, "--checkpoint", saved)
    line = [artifact.executable, "train", *given, "--steps", 10**9, "--save-every", 1]
    chance, last = random.Random(0), 0
    for _ in range(8):
        words = [*line, "--resume", saved] if saved.exists() else line
        run = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL)
        while not saved.exists() or read_checkpoint(saved).step == last:
            assert run.poll() is None
            time.sleep(0.002)
        time.sleep(chance.random() * 0.01)
        run.kill()
        run.wait()
        step = read_checkpoint(saved).step  # checks its hash
        assert step > last
        last = step

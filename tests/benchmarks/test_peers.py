"""The peers do the work of the same task: the losses of PyTorch, through other libraries."""

import dataclasses
import importlib
import json
from pathlib import Path

import pytest

from benchmarks.peers import SYSTEMS, Task
from benchmarks.peers import environments as made
from benchmarks.peers.exported import write_task
from benchmarks.peers.selection import learned_names

WORKERS = Path(importlib.import_module("benchmarks.peers.workers").__file__).parent


@pytest.mark.parametrize(
    ("model", "optimizer"), [("small_net:build", "sgd"), ("small_transformer:build", "adamw")]
)
def test_jax_follows_pytorch(monkeypatch, tmp_path, model, optimizer):
    monkeypatch.syspath_prepend(WORKERS)
    worker = importlib.import_module("jax_worker")
    task = Task(model, 3, "full", optimizer, 1e-3, 1, learned_names(model, "full"))
    write_task(task, tmp_path / "task")
    step = worker.make(json.loads((tmp_path / "task" / "task.json").read_text()), tmp_path / "task")
    expected = SYSTEMS["torch"](dataclasses.replace(task), tmp_path)
    theirs, ours = ([one() for _ in range(3)] for one in (step, expected.step))
    assert ours[2] != ours[0]
    assert theirs == pytest.approx(ours, rel=1e-5)


def test_only_what_learns_is_among_the_trainable(tmp_path):
    learns = learned_names("small_net:build", "bias")
    write_task(Task("small_net:build", 1, "bias", "sgd", 1e-3, 1, learns), tmp_path / "task")
    task = json.loads((tmp_path / "task" / "task.json").read_text())
    assert task["trainable"]
    assert len(task["trainable"]) < len(task["parameters"])


def test_an_environment_is_used_only_with_the_versions_that_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("POCK_PEERS", str(tmp_path))
    assert made.python_of("jax") is None
    (tmp_path / "jax").mkdir()
    mark = tmp_path / "jax" / "requirements.txt"
    mark.write_text("".join(f"{line}\n" for line in made.REQUIREMENTS["jax"]))
    assert made.python_of("jax") == tmp_path / "jax" / "bin" / "python"
    mark.write_text("jax==0.1\n")
    assert made.python_of("jax") is None
    with pytest.raises(SystemExit, match=r"make it with: python -m benchmarks.peers.environments"):
        SYSTEMS["jax"](Task("small_net:build", 1, "full", "sgd", 1e-3, 1, ()), tmp_path)

"""The peers do the work of the same task: the losses of PyTorch, through other libraries."""

import copy
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.peers import SYSTEMS, Task, remote
from benchmarks.peers import environments as made
from benchmarks.peers.exported import write_task
from benchmarks.peers.folded import fold_batch_norms
from benchmarks.peers.mnn_task import write_mnn_task
from benchmarks.peers.onnx_task import write_onnx_task
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


@pytest.mark.parametrize("update", ["full", "bias"])
def test_a_folded_net_computes_the_same_and_learns_as_much(update):
    import torch

    task = Task(
        "small_net:build", 2, update, "sgd", 1e-3, 1, learned_names("small_net:build", update)
    )
    plain, example = task.built
    example = torch.randn(2, *example[0].shape[1:])
    for statistic in (plain.features.norm.running_mean, plain.features.norm.running_var):
        statistic.uniform_(0.5, 2)
    folded = copy.deepcopy(plain.eval())
    learns = fold_batch_norms(folded, (example,), task.learns)
    # the product of a scale and 9 weights rounds once more than scaling their sum
    torch.testing.assert_close(folded(example), plain(example), rtol=1e-5, atol=1e-6)
    names = dict(folded.named_parameters())
    assert "features.norm.weight" not in names
    assert ("features.stem.weight" in learns) == (update == "full")
    assert "features.stem.bias" in learns
    assert set(learns) <= set(names)


@pytest.mark.parametrize("model", ["mobilenet_v2@small", "distilbert@small"])
def test_what_mnn_reads_computes_the_same(tmp_path, model):
    ort = pytest.importorskip("onnxruntime")
    task = Task(model, 2, "full", "sgd", 1e-3, 1, learned_names(model, "full"))
    write_onnx_task(dataclasses.replace(task), tmp_path / "onnx")
    assert write_mnn_task(dataclasses.replace(task), tmp_path / "mnn")
    inputs = np.load(tmp_path / "mnn" / "batch.npz")["inputs"]
    plain, rewritten = (
        ort.InferenceSession(tmp_path / name / "model.onnx").run(None, {"input": inputs})[0]
        for name in ("onnx", "mnn")
    )
    kinds = {n.op_type for n in onnx.load(tmp_path / "mnn" / "model.onnx").graph.node}
    assert not kinds & {"GlobalAveragePool", "Flatten", "LayerNormalization"}
    np.testing.assert_allclose(rewritten, plain, rtol=1e-5, atol=1e-6)


def test_a_worker_may_print_and_say_the_loss_off_the_clock(tmp_path):
    (tmp_path / "task.json").write_text('{"first": 3}')
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import time\n"
        "print('native noise', flush=True)\n"
        "from protocol import serve\n"
        "def make(task, folder):\n"
        "    left = [task['first']]\n"
        "    def loss():\n"
        "        time.sleep(0.2)\n"
        "        return float(left[0])\n"
        "    def step():\n"
        "        left[0] -= 1\n"
        "    return step, loss\n"
        "serve(make)\n"
    )
    answers, theirs = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(WORKERS)}
    command = [sys.executable, worker, tmp_path, str(theirs)]
    subprocess.run(
        command, input="step\nstep\n", text=True, pass_fds=[theirs], check=True, env=environment
    )
    os.close(theirs)
    with os.fdopen(answers) as file:
        first, second = (json.loads(line) for line in file)
    assert (first["loss"], second["loss"]) == (3, 2)
    assert first["seconds"] < 0.2


def test_a_worker_sleeps_between_its_turns(monkeypatch, tmp_path):
    worker = tmp_path / "jax_worker.py"
    worker.write_text(
        "import threading\n"
        "from protocol import serve\n"
        "def spin():\n"
        "    while True:\n"
        "        pass\n"
        "def make(task, folder):\n"
        "    threading.Thread(target=spin, daemon=True).start()\n"
        "    return lambda: 1.0\n"
        "serve(make)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(WORKERS))
    monkeypatch.setattr(remote, "python_of", lambda _: sys.executable)
    monkeypatch.setattr(remote, "WORKERS", tmp_path)
    task = Task("small_net:build", 1, "full", "sgd", 1e-3, 1, ())
    peer = SYSTEMS["jax"](task, tmp_path)
    for _ in range(2):
        peer.step()
        _, status = os.waitpid(peer._worker.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
    peer.close()
    assert peer._worker.returncode == 0


def test_a_tied_table_of_a_language_model_is_one_parameter(tmp_path):
    model = "llama_small@small"
    learns = learned_names(model, "full")
    task = Task(model, 1, "full", "sgd", 1e-3, 1, learns)
    inputs, labels = task.samples()
    assert labels.shape == inputs.shape, "a label for each token"
    write_task(task, tmp_path / "task")
    document = json.loads((tmp_path / "task" / "task.json").read_text())
    assert sorted(document["trainable"]) == sorted(learns)
    assert len(document["parameters"]) > len(set(document["parameters"].values()))
    with np.load(tmp_path / "task" / "batch.npz") as batch:
        assert batch["labels"].shape == (labels.size,)

"""Gradient accumulation: the steps of PyTorch's loop, and its runs, checkpoints and reports."""

import subprocess
from fractions import Fraction

import numpy as np
import pytest
import small_net
import torch
from torch.nn.functional import cross_entropy

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.errors import BatchError, DivergedError, PockError
from pock_tvm.frontend import load_model
from pock_tvm.update import Rule, UpdateScheme

TIMES, RATE = 3, 0.05
BATCH = small_net.BATCH
PER_STEP = TIMES * BATCH

CASES = {
    "adamw, batch norm": ({"optimizer": "adamw", "batch_norm": "train"}, torch.optim.AdamW),
    "sgd, clipped": ({"optimizer": "sgd", "clip": "global-norm:0.1"}, torch.optim.SGD),
}


def compiled(folder, times=TIMES, **options):
    model = load_model("small_net:build", BATCH)
    return pock_tvm.compile(model, folder, accumulate=times, **options)


def draw(count, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, small_net.CLASSES, count)
    pixels = generator.normal(size=(count, 1, 8, 8)) + labels[:, None, None, None]
    return pixels.astype("float32"), labels


def torch_step(module, optimizer, pixels, labels, clip):
    """The loop that everyone writes."""
    optimizer.zero_grad()
    total = 0.0
    for start in range(0, PER_STEP, BATCH):
        piece = slice(start, start + BATCH)
        output = module(torch.tensor(pixels[piece]))
        loss = cross_entropy(output, torch.tensor(labels[piece])) / TIMES
        loss.backward()
        total += loss.item()
    if clip:
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.1)
    optimizer.step()
    return total


@pytest.mark.parametrize("name", CASES)
def test_steps_follow_pytorchs_loop(name, tmp_path):
    options, optimizer_of = CASES[name]
    report = compiled(tmp_path / "net", **options).report()
    module, _ = small_net.build()
    module.train(options.get("batch_norm") == "train")
    learned = sum(p.numel() for p in module.parameters())
    assert report["accumulate"] == TIMES
    assert report["accumulators_bytes"] == 4 * (learned + 1)  # gradients, and the loss
    reference = optimizer_of(module.parameters(), RATE)
    with Trainer(tmp_path / "net", threads=2) as trainer:
        for step in range(4):
            pixels, labels = draw(PER_STEP, seed=step)
            wanted = torch_step(module, reference, pixels, labels, "clip" in options)
            assert trainer.step(pixels, labels, RATE) == pytest.approx(wanted, abs=1e-5)
            assert trainer.steps_done == step + 1
        for key, value in module.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                np.testing.assert_allclose(
                    trainer.tensor(key), value.numpy(), atol=1e-4, err_msg=key
                )


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("accumulate") / "net", executable=True).artifact


def state_of(trainer):
    names = [t.name for t in trainer.description.tensors if t.region == "state"]
    # an accumulator that is not in use may hold anything
    return {n: trainer.tensor(n) for n in names if not n.startswith("accumulat")}


def assert_equal_states(one, other):
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_a_run_takes_whole_steps_across_the_ends_of_epochs(artifact):
    samples = draw(20)  # a step takes 12 of them
    with Trainer(artifact.directory) as trainer:
        assert trainer.samples_per_step == PER_STEP
        losses = trainer.fit(*samples, epochs=2, learning_rate=RATE)
        assert len(losses) == -(-2 * 20 // PER_STEP)
        assert trainer.steps_done == len(losses)


def test_one_large_batch_makes_the_same_step_on_a_share_of_the_channels(tmp_path):
    half = UpdateScheme(name="half", rules=(Rule(what=("pointwise",), channels=Fraction(1, 2)),))
    model = load_model("small_net:build", PER_STEP)
    pock_tvm.compile(model, tmp_path / "large", update=half)
    report = compiled(tmp_path / "net", update=half).report()
    assert report["accumulators_bytes"] == 4 * (16 * 4 + 1)  # half of 16x8, and the loss
    samples = draw(PER_STEP)
    with Trainer(tmp_path / "large") as large, Trainer(tmp_path / "net") as trainer:
        for _ in range(3):
            wanted = large.step(*samples, RATE)
            assert trainer.step(*samples, RATE) == pytest.approx(wanted, abs=1e-6)
        assert trainer.evaluate(*samples).loss == pytest.approx(
            large.evaluate(*samples).loss, abs=1e-6
        )


def test_a_checkpoint_between_two_batches_loses_none(artifact, tmp_path, monkeypatch):
    samples = draw(20)
    with Trainer(artifact.directory) as trainer:
        losses = trainer.fit(*samples, steps=4, learning_rate=RATE)
        whole = state_of(trainer)
    saved = tmp_path / "saved"
    with Trainer(artifact.directory) as trainer:
        done = []
        fill = trainer._fill

        def interrupted(batch):
            if len(done) == 2 * TIMES - 1:
                raise KeyboardInterrupt
            done.append(batch)
            fill(batch)

        monkeypatch.setattr(trainer, "_fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(*samples, steps=4, learning_rate=RATE)
        assert trainer._session.waiting == TIMES - 1
        trainer.save_checkpoint(saved)
    with Trainer(artifact.directory) as trainer:
        rest = trainer.fit(*samples, steps=4, learning_rate=RATE, checkpoint=saved, resume=True)
        assert rest == losses[1:]
        assert_equal_states(state_of(trainer), whole)


def test_a_step_drops_what_a_run_left_half_done(artifact):
    samples = draw(PER_STEP)
    with Trainer(artifact.directory) as trainer:
        wanted = trainer.step(*samples, RATE)
    with Trainer(artifact.directory) as trainer:
        trainer._fill(trainer._samples(samples[0][:BATCH] * 9, samples[1][:BATCH]))
        trainer._session.accumulate()
        assert trainer._session.waiting == 1
        assert trainer.step(*samples, RATE) == wanted


def test_a_diverged_batch_leaves_weights_that_can_be_saved(artifact, tmp_path):
    samples = draw(PER_STEP)
    with Trainer(artifact.directory) as trainer:
        before = state_of(trainer)
        bias = trainer._session.view(trainer.description.tensor("classifier.bias"))
        bias[0] = np.inf  # a batch that makes the loss infinite, and the gradients
        with pytest.raises(DivergedError, match="the loss of step 1 is"):
            trainer.step(*samples, RATE)
        bias[0] = before["classifier.bias"][0]
        assert trainer._session.waiting == 0
        trainer.save_checkpoint(tmp_path / "saved")
        assert_equal_states(state_of(trainer), before)


def test_the_standalone_program_makes_the_same_steps(artifact, tmp_path):
    samples = draw(20)
    write_dataset(tmp_path / "data", artifact.description, *samples)
    with Trainer(artifact.directory) as trainer:
        wanted = [np.float32(x) for x in trainer.fit(*samples, steps=4, learning_rate=RATE)]

    def run(*words):
        line = [artifact.executable, "train", "--weights", artifact.weights, "--lr", RATE]
        line += ["--data", tmp_path / "data", "--checkpoint", tmp_path / "saved", *words]
        done = subprocess.run(
            [str(word) for word in line], capture_output=True, text=True, check=True
        )
        return [np.float32(text.split()[3]) for text in done.stdout.splitlines()[:-1]]

    assert run("--steps", 1) + run("--steps", 3, "--resume", tmp_path / "saved") == wanted


def test_wrong_numbers_are_refused(artifact, tmp_path):
    with pytest.raises(PockError, match="accumulate is 0; a step takes at least 1 batch"):
        compiled(tmp_path / "net", times=0)
    refused = pytest.raises(BatchError, match=f"{BATCH} samples given")
    with Trainer(artifact.directory) as trainer, refused:
        trainer.step(*draw(BATCH), RATE)


def test_without_accumulation_there_is_no_trace_of_it(small_artifact):
    description = small_artifact.description
    assert description.accumulate == 1
    assert description.entry("accumulate") is None
    assert not [t for t in description.tensors if t.name.startswith("accumulat")]

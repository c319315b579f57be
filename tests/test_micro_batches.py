"""A budget too small for repetition: the step takes its batch in parts, and learns the same."""

import numpy as np
import pytest
import small_net

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.errors import MemoryBudgetError
from pock_tvm.frontend import load_model

BATCH, RATE = 8, 0.05


def compiled(folder, budget=None, **options):
    model = load_model("small_net:build", BATCH)
    return pock_tvm.compile(model, folder, memory_budget=budget, **options).report()


def draw(seed):
    generator = np.random.default_rng(seed)
    pixels = generator.normal(size=(BATCH, 1, 8, 8)).astype("float32")
    return pixels, generator.integers(0, small_net.CLASSES, BATCH)


def learned(folder, labels_of=lambda labels: labels):
    with Trainer(folder) as trainer:
        losses = []
        for seed in range(4):
            pixels, labels = draw(seed)
            losses.append(trainer.step(pixels, labels_of(labels), RATE))
        names = [t.name for t in trainer.description.tensors if t.region == "state"]
        return losses, {name: trainer.tensor(name).copy() for name in names}


def with_ignored(labels):
    """All labels of one part and one of another do not count."""
    return np.where(np.arange(BATCH) < 5, labels, -100)


def test_a_budget_below_repetition_gives_the_same_steps(tmp_path):
    whole = compiled(tmp_path / "whole", optimizer="adamw")
    least = whole["memory_frontier"][-1]["arena_bytes"]
    budget = least - 1024
    report = compiled(tmp_path / "parts", budget, optimizer="adamw")
    assert whole["micro_batches"] == 1 < report["micro_batches"]
    assert report["arena_bytes"] <= budget
    for labels_of in (lambda labels: labels, with_ignored):
        losses, weights = learned(tmp_path / "whole", labels_of)
        parts_losses, parts_weights = learned(tmp_path / "parts", labels_of)
        np.testing.assert_allclose(parts_losses, losses, rtol=1e-5)
        for name, value in weights.items():
            np.testing.assert_allclose(parts_weights[name], value, atol=1e-5, err_msg=name)


def test_an_impossible_budget_names_the_least_bytes(tmp_path):
    with pytest.raises(MemoryBudgetError, match="micro-batches within the batch") as refused:
        compiled(tmp_path / "net", 5000)
    least = refused.value.least_bytes
    assert f"{least:,} bytes at the least" in str(refused.value)
    assert not (tmp_path / "net").exists()


def test_batch_statistics_take_a_whole_batch(tmp_path):
    with pytest.raises(MemoryBudgetError, match=r"no micro-batches .* batch statistics"):
        compiled(tmp_path / "net", 5000, batch_norm="train")

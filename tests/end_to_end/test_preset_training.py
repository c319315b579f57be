"""``--update preset`` on every model of the zoo: what learns follows PyTorch, the rest stays."""

import logging
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from zoo_training import gradient_errors, task, train_in_torch

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend.zoo import ZOO

log = logging.getLogger(__name__)
STEPS = 5
DESCENT = 0.1
"""Share of the loss that the first step takes away, were the loss linear."""
READING = 2.0**20
"""A rate so large that a weight after the step is all gradient: rounding costs 2⁻²⁴ of either."""
QUICK = ("distilbert", "llama_small")
"""One with biases, one whose tied head learns; quick because transformers compile in seconds."""
MODELS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ZOO]


def _learns(done: Mapping[str, object] | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return True where a tensor learns."""
    mask = np.full(shape, done is not None)
    if done and done["kind"] == "channels":
        mask[...] = False
        mask[(slice(None),) * done["axis"] + (done["channels"],)] = True
    return mask


@pytest.mark.parametrize("name", MODELS)
def test_what_the_preset_names_learns_and_the_rest_stays(name, tmp_path):
    one = task(name, small=True)
    imported = one.imported()
    pock_tvm.compile(imported, tmp_path / "net", update="preset", loss=one.loss)
    inputs = {key: value.numpy() for key, value in one.inputs.items()}
    labels = None if one.labels is None else one.labels.numpy().astype("int32")
    before = imported.parameters

    with Trainer(tmp_path / "net") as trainer:
        done = trainer.description.update["tensors"]
        masks = {n: _learns(done.get(n), w.shape) for n, w in before.items()}
        first = trainer.step(inputs, labels, READING)
        after = {n: trainer.tensor(n) for n in before}
    for n, mask in masks.items():
        assert after[n][~mask].tobytes() == before[n][~mask].tobytes(), n
    gradients = {
        n: np.where(masks[n], before[n].astype("float64") - after[n], 0) / READING for n in done
    }
    reference = train_in_torch(one, 0.0, 1, torch.float64, "SGD", masks).gradients
    expected = {n: reference[n] for n in done}
    errors = gradient_errors(gradients, expected)
    log.info("%s: %d gradients, worst %s %.1e", name, len(errors), *errors[0])
    assert errors[0][1] <= 1e-4, errors[:5]

    rate = DESCENT * first / sum(np.sum(np.square(g)) for g in expected.values())
    with Trainer(tmp_path / "net") as trainer:
        losses = [trainer.step(inputs, labels, rate) for _ in range(STEPS)]
    assert losses[0] == first
    assert all(later < earlier for earlier, later in pairwise(losses)), losses
    theirs = train_in_torch(one, rate, STEPS, torch.float64, "SGD", masks).losses
    off = np.abs(np.array(losses) / np.array(theirs) - 1).max()
    log.info("%s: losses %s, off by %.1e", name, losses, off)
    assert off <= 1e-4

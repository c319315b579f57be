"""Three small nets, each compiled and trained for a few steps; tests only read them."""

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend import load_model

UPDATES = {"small_net": "full", "small_transformer": "bias", "tied_net": "words.weight,norm.*"}


@dataclass(frozen=True)
class Trained:
    """An artifact, a checkpoint after three steps, and what it predicts then."""

    name: str
    update: str
    folder: Path
    checkpoint: Path
    inputs: np.ndarray
    predicted: np.ndarray

    @property
    def reference(self):
        return f"{self.name}:build"

    def module(self):
        """Return the module as it was compiled, in eval mode."""
        return importlib.import_module(self.name).build()[0].eval()

    def state_dict(self, folder, name="base.pt"):
        """Write the state dict of the untrained module and return its place."""
        torch.save(self.module().state_dict(), folder / name)
        return folder / name


@pytest.fixture(scope="session", params=UPDATES)
def trained(request, tmp_path_factory):
    name = request.param
    built = importlib.import_module(name)
    folder = tmp_path_factory.mktemp(name)
    model = load_model(f"{name}:build", built.BATCH)
    options = {"batch_norm": "train"} if name == "small_net" else {}
    pock_tvm.compile(model, folder / "net", update=UPDATES[name], **options)
    generator = np.random.default_rng(0)
    shape = model.inputs[0].shape
    if model.inputs[0].dtype == "float32":
        inputs = generator.standard_normal(shape, "float32")
    else:
        inputs = generator.integers(0, built.VOCABULARY, shape).astype("int32")
    classes = getattr(built, "CLASSES", getattr(built, "VOCABULARY", None))
    labels = generator.integers(0, classes, built.BATCH)
    with Trainer(folder / "net", threads=1) as trainer:
        before = trainer.predict(inputs)
        for _ in range(3):
            trainer.step(inputs, labels, 0.05)
        trainer.save_checkpoint(folder / "net.ckpt")
        predicted = trainer.predict(inputs)
    assert np.abs(predicted - before).max() > 1e-2  # or agreement would say nothing
    return Trained(name, UPDATES[name], folder / "net", folder / "net.ckpt", inputs, predicted)

"""Weights in panels: the artifact learns the same, and gives them back as the model has them."""

import numpy as np
import pytest
import torch

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.compilation import stored_panels
from pock_tvm.frontend import load_model

CLASSES, STEPS, RATE = 5, 4, 0.05


class Tokens(torch.nn.Module):
    """48 rows go through linear layers whose columns make whole panels on any machine."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(30, 96)
        self.frozen = torch.nn.Linear(96, 192)
        self.learns = torch.nn.Linear(192, 96)
        self.behind = torch.nn.Linear(96, 192)
        self.head = torch.nn.Linear(192, CLASSES)

    def forward(self, tokens):
        x = torch.relu(self.frozen(self.table(tokens)))
        x = torch.relu(self.behind(torch.relu(self.learns(x))))
        return self.head(x.mean(1))


def build():
    torch.manual_seed(0)
    return Tokens(), (torch.randint(0, 30, (3, 16)),)


UPDATE = "learns.weight,head.*"


@pytest.fixture(scope="module")
def model():
    return load_model(f"{__name__}:build", 3)


@pytest.fixture(scope="module")
def artifacts(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("panels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_panels, "wanted_panel_width", lambda *_: None)
        rows = pock_tvm.compile(model, folder / "rows", update=UPDATE).artifact
    return rows, pock_tvm.compile(model, folder / "panels", update=UPDATE).artifact


def _losses(trainer):
    generator = np.random.default_rng(1)
    return [
        trainer.step(generator.integers(0, 30, (3, 16)), generator.integers(0, CLASSES, 3), RATE)
        for _ in range(STEPS)
    ]


def test_frozen_weights_of_products_are_in_panels(artifacts):
    rows, panels = (
        {t.name: t for t in a.description.tensors if t.panel is not None} for a in artifacts
    )
    assert not rows
    assert panels.keys() == {"frozen.weight", "behind.weight"}
    frozen = panels["frozen.weight"]
    assert frozen.shape == (192 // frozen.panel, 96, frozen.panel)
    assert frozen.original_shape == (192, 96)
    plans = [a.description.regions for a in artifacts]
    assert plans[0].frozen_bytes == plans[1].frozen_bytes
    assert plans[0].workspace_bytes_per_thread >= plans[1].workspace_bytes_per_thread


def test_losses_and_exported_weights_are_the_same(artifacts, model):
    with Trainer(artifacts[0].directory) as rows, Trainer(artifacts[1].directory) as panels:
        # four steps behind each other, sums of up to 192 products
        np.testing.assert_allclose(_losses(panels), _losses(rows), rtol=1e-5)
        for name in ("frozen.weight", "behind.weight"):
            np.testing.assert_array_equal(panels.tensor(name), model.parameters[name])
        moved = panels.tensor("learns.weight") - model.parameters["learns.weight"]
        assert np.abs(moved).max() > 0


def test_what_predicts_reads_the_panels(artifacts):
    tokens = np.random.default_rng(2).integers(0, 30, (3, 16))
    with Trainer(artifacts[0].directory) as rows, Trainer(artifacts[1].directory) as panels:
        np.testing.assert_allclose(panels.predict(tokens), rows.predict(tokens), atol=1e-5)

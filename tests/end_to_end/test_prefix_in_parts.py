"""Frozen prefixes in parts: a smaller arena, and the same training to the bit."""

import json

import numpy as np
import pytest
import sparse_net

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.compilation import prefix
from pock_tvm.frontend.torch_export import import_module

BATCH = 8


def trained(folder, update):
    """Compile, take three steps, evaluate and predict; return the plan and all numbers."""
    module, inputs = sparse_net.build()
    model = import_module(module, inputs, BATCH, "sparse")
    # AdamW counts its steps before the first call that reads a sample: no end of the prefix.
    compiled = pock_tvm.compile(model, folder, update=update, optimizer="adamw")
    rng = np.random.default_rng(0)
    pictures = rng.standard_normal((BATCH, 3, 16, 16)).astype("float32")
    labels = rng.integers(0, sparse_net.CLASSES, BATCH).astype("int32")
    trainer = Trainer(folder)
    losses = [trainer.step(pictures, labels, 0.05) for _ in range(3)]
    found = trainer.evaluate(pictures, labels)
    return compiled, (np.array(losses), found, trainer.predict(pictures))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefix")
    patch = pytest.MonkeyPatch()
    in_parts = trained(folder / "parts", "last.*")
    patch.setattr(prefix, "choose_parts", lambda *_: {})
    at_once = trained(folder / "whole", "last.*")
    patch.undo()
    return folder, in_parts, at_once


def test_every_number_is_the_same(both):
    _, (_, numbers), (_, wanted) = both
    for got, want in zip(numbers, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_arena_shrinks(both):
    _, (parts, _), (whole, _) = both
    assert parts.report()["transient_bytes"] < 0.6 * whole.report()["transient_bytes"]


def test_parts_are_written_into_their_whole(both):
    folder, *_ = both
    calls = json.loads((folder / "parts" / "plan.json").read_text())["train_step"]["calls"]
    written = [name for call in calls for name in call["writes"] if name.endswith("joined")]
    assert len(written) > len(set(written)) > 0
    starts = {
        call["shifts"][-1] if call["shifts"] else 0
        for call in calls
        if call["writes"] == [written[0]]
    }
    assert len(starts) == written.count(written[0])

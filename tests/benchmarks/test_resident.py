"""The plan is the truth: the program that trains takes the bytes that were planned, and no more."""

import pytest
import torch
from torch import nn

from benchmarks.resident import ALLOWED_BYTES, measure
from pock_tvm.frontend.torch_export import import_module

WIDTH, BATCH = 1536, 384
WEIGHT_BYTES = 4 * WIDTH * WIDTH


@pytest.mark.parametrize("update", ["full", "1.*"])
def test_resident_memory_is_what_was_planned(update) -> None:
    """Whatever lay in memory twice, a weight or the samples, would be seen: each is larger."""
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2))
    example = (torch.zeros(1, WIDTH),)
    model = import_module(net, example, batch=BATCH, name="wide")
    row = measure(model, update, "sgd", "cross_entropy")
    assert row["sample_file_bytes"] > 4 * ALLOWED_BYTES < WEIGHT_BYTES
    assert 2 * WEIGHT_BYTES < row["weights_bytes"] < row["planned_bytes"]
    assert row["holds"]
    assert row["excess_bytes"] <= ALLOWED_BYTES
    least = row["planned_bytes"] - row["weights_bytes"]
    assert row["resident_bytes"] > least  # the measure itself sees what is touched

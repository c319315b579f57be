"""Losses and norms are summed in one order: the same bits on any number of threads.

The tensors are larger than what one thread would take for itself.
"""

import numpy as np
import pytest
import torch

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.losses import LOSSES

BATCH, FEATURES, CLASSES = 64, 16, 3000
OPTIONS = {
    "cross_entropy": {"optimizer": "adafactor", "clip": "tensor-norm:0.01"},
    "bce": {"optimizer": "rmsprop:centered=true,eps=0.01", "clip": "global-norm:0.01"},
    "mse": {"optimizer": "lion", "clip": "value:1e-6"},
    "distillation": {"clip": "global-norm:0.01"},
}


@pytest.mark.parametrize("loss", OPTIONS)
def test_threads_do_not_change_the_bits(loss, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Linear(FEATURES, CLASSES)
    model = import_module(net, (torch.zeros(1, FEATURES),), batch=BATCH, name="wide")
    pock_tvm.compile(model, tmp_path / "net", loss=loss, **OPTIONS[loss])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, FEATURES), "float32")
    labels = rng.integers(0, CLASSES, BATCH)
    if LOSSES[loss].labels == "values":
        labels = rng.integers(0, 2, (BATCH, CLASSES)).astype("float32")
    runs = []
    for threads in (1, 2, 3):
        with Trainer(tmp_path / "net", threads=threads) as trainer:
            losses = [trainer.step(x, labels, 0.1) for _ in range(4)]
            runs.append((losses, trainer.tensor("weight").tobytes()))
    assert len(set(runs[0][0])) > 1
    assert runs[0] == runs[1] == runs[2]

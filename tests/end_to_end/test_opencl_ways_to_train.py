"""Losses, optimizers, clipping, sparse updates and accumulation through OpenCL."""

import numpy as np
import pytest
import small_net
from test_opencl import needs_driver
from test_small_net_steps import CASES, PARTIAL, RATE, _labels

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend import load_model
from pock_tvm.losses import BinaryCrossEntropy, Contrastive, CrossEntropy
from pock_tvm.optimizers import SGD, Adam, AdamW

WAYS = {
    # What a kernel calls that OpenCL names otherwise; tensors with brackets in their names.
    "bce, half the channels": (BinaryCrossEntropy(), Adam(eps=1e-3), {"update": PARTIAL["half"]}),
    **{name: pytest.param(*way, marks=pytest.mark.slow) for name, way in CASES.items()},
    "lora": pytest.param(
        CrossEntropy(), SGD(), {"update": PARTIAL["lora"]}, marks=pytest.mark.slow
    ),
    "accumulated": pytest.param(CrossEntropy(), AdamW(), {"accumulate": 2}, marks=pytest.mark.slow),
}


@pytest.mark.parametrize(("loss", "optimizer", "options"), WAYS.values(), ids=WAYS)
def test_five_steps_agree_with_the_processor(loss, optimizer, options, tmp_path):
    needs_driver()
    batch = small_net.CLASSES if isinstance(loss, Contrastive) else small_net.BATCH
    model = load_model("small_net:build", batch)
    generator = np.random.default_rng(0)
    count = batch * options.get("accumulate", 1)
    pixels = generator.standard_normal((count, 1, 8, 8), "float32")
    labels = _labels(loss, generator, count)
    losses, states, measured = {}, {}, {}
    for target in ("host", "opencl"):
        words = {"loss": loss, "optimizer": optimizer, **options}
        pock_tvm.compile(model, tmp_path / target, target=target, **words)
        with Trainer(tmp_path / target, threads=1) as trainer:
            losses[target] = [trainer.step(pixels, labels, RATE) for _ in range(5)]
            state = [t.name for t in trainer.description.tensors if t.region == "state"]
            states[target] = {name: trainer.tensor(name) for name in state}
            measured[target] = trainer.evaluate(pixels, labels)
    np.testing.assert_allclose(losses["opencl"], losses["host"], rtol=1e-5, atol=1e-6)
    for name, expected in states["host"].items():
        np.testing.assert_allclose(
            states["opencl"][name], expected, rtol=1e-4, atol=1e-5, err_msg=name
        )
    assert measured["opencl"].loss == pytest.approx(measured["host"].loss, rel=1e-5, abs=1e-6)
    assert measured["opencl"].accuracy == measured["host"].accuracy

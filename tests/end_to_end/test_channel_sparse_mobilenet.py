"""MobileNetV2 at full size: a quarter of the channels of its blocks' first 1x1 convolutions."""

from fractions import Fraction

import numpy as np
import pytest
from saved_activations import kept_for, live_across_the_loss

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend import load_model
from pock_tvm.optimizers import SGD
from pock_tvm.update import Rule, UpdateScheme

BATCH, CONVS = 2, 7


def scheme(share):
    rule = Rule(what=("first_conv",), blocks=f"last {CONVS}", channels=Fraction(share))
    return UpdateScheme(name=share, trainable=("classifier.*",), rules=(rule,))


@pytest.mark.slow
def test_a_quarter_of_the_channels_keeps_a_quarter_and_moves_a_quarter(tmp_path):
    model = load_model("zoo:mobilenet_v2", BATCH)
    for share in ("1", "1/4"):
        folder = tmp_path / share.replace("/", "of")
        pock_tvm.compile(model, folder, update=scheme(share), optimizer=SGD(momentum=0.9))
    whole, quarter = tmp_path / "1", tmp_path / "1of4"
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(spec.shape).astype(spec.dtype) for spec in model.inputs]
    labels = rng.integers(0, 1000, BATCH).astype("int32")
    with Trainer(quarter, threads=2) as trainer:
        for _ in range(2):
            assert np.isfinite(trainer.step(inputs[0], labels, 0.01))
        done = trainer.description.update["tensors"]
        sparse = [name for name, d in done.items() if d["kind"] == "channels"]
        assert len(sparse) == CONVS
        for name in sparse:
            chosen, before, got = done[name], model.parameters[name], trainer.tensor(name)
            learns = np.isin(np.arange(chosen["of"]), chosen["channels"])
            assert 4 * learns.sum() == chosen["of"]
            rest = np.compress(~learns, got, chosen["axis"])
            assert rest.tobytes() == np.compress(~learns, before, chosen["axis"]).tobytes(), name
            moved = np.compress(learns, got, chosen["axis"])
            assert (moved != np.compress(learns, before, chosen["axis"])).any(), name
    kept = {folder: [kept_for(folder, name) for name in sparse] for folder in (whole, quarter)}
    assert [4 * nbytes for nbytes in kept[quarter]] == kept[whole]
    totals = [sum(live_across_the_loss(folder).values()) for folder in (whole, quarter)]
    assert totals[0] - totals[1] == sum(kept[whole]) - sum(kept[quarter])

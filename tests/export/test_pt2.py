"""A ``.pt2`` file -> train -> back out, as ONNX, state dict and delta: the same predictions."""

import numpy as np
import onnx
import onnxruntime
import pytest
import small_net
import tied_net
import torch

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.export import apply_delta, export_file, read_trained
from pock_tvm.frontend import load_model

UPDATES = {small_net: "full", tied_net: "words.weight,norm.*"}


@pytest.fixture(scope="module", params=UPDATES, ids=lambda net: net.__name__)
def trained(request, tmp_path_factory):
    """Return the net, the folder of all files, a batch and what it predicts after two steps."""
    net = request.param
    folder = tmp_path_factory.mktemp("pt2")
    module, (example,) = net.build()
    example = torch.cat([example] * net.BATCH)
    torch.export.save(torch.export.export(module.eval(), (example,)), folder / "net.pt2")
    model = load_model(str(folder / "net.pt2"), net.BATCH)
    pock_tvm.compile(model, folder / "net", update=UPDATES[net])
    rng = np.random.default_rng(0)
    shape = tuple(example.shape)
    inputs = (
        rng.standard_normal(shape).astype("float32")
        if example.is_floating_point()
        else rng.integers(0, net.VOCABULARY, shape).astype("int32")
    )
    with Trainer(folder / "net", threads=1) as trainer:
        before = trainer.predict(inputs)
        labels = rng.integers(0, before.shape[-1], before.shape[:-1])
        for _ in range(2):
            trainer.step(inputs, labels, 0.05)
        trainer.save_checkpoint(folder / "net.ckpt")
        predicted = trainer.predict(inputs)
    assert np.abs(predicted - before).max() > 1e-2
    return net, folder, inputs, predicted


def test_onnx(trained, tmp_path):
    _, folder, inputs, predicted = trained
    out = tmp_path / "tuned.onnx"
    export_file(
        read_trained(folder / "net", folder / "net.ckpt"), out, source=str(folder / "net.pt2")
    )
    onnx.checker.check_model(onnx.load(out), full_check=True)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    wide = inputs.astype("int64") if given.type == "tensor(int64)" else inputs
    (found,) = session.run(None, {given.name: wide})
    np.testing.assert_allclose(found, predicted, atol=1e-5)


def test_state_dict_and_delta(trained, tmp_path):
    net, folder, inputs, predicted = trained
    found = read_trained(folder / "net", folder / "net.ckpt")
    module = net.build()[0].eval()
    export_file(found, tmp_path / "whole.pt")
    export_file(found, tmp_path / "net.delta")
    torch.save(module.state_dict(), tmp_path / "base.pt")
    apply_delta(tmp_path / "base.pt", tmp_path / "net.delta", tmp_path / "tuned.pt")
    given = torch.tensor(inputs)
    for name in ("whole.pt", "tuned.pt"):
        state = torch.load(tmp_path / name, weights_only=True)
        module.load_state_dict(state, strict=True)
        with torch.no_grad():
            got = module(given if given.is_floating_point() else given.long()).numpy()
        np.testing.assert_allclose(got, predicted, atol=1e-5, err_msg=name)

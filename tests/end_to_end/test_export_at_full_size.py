"""MobileNetV2 at full size, a step of training, and back out: the same predictions to 1e-5."""

import copy
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from full_models import build_model
from onnx_exports import export

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.export import apply_delta, export_file, read_delta, read_trained
from pock_tvm.export.torch_file import read_state_dict
from pock_tvm.frontend import load_model
from pock_tvm.frontend.torch_export import import_module

pytestmark = pytest.mark.slow
log = logging.getLogger(__name__)
REFERENCE = "full_models:mobilenet_v2"
RATE = 0.01


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder: the artifact, its checkpoint after a step, the original, and what it predicts."""
    folder = tmp_path_factory.mktemp("full")
    model = build_model("mobilenet_v2")
    pock_tvm.compile(model.imported(), folder / "net")
    torch.save(model.module.state_dict(), folder / "base.pt")
    pictures = model.inputs.numpy()
    with Trainer(folder / "net", threads=2) as trainer:
        before = trainer.predict(pictures)
        trainer.step(pictures, model.labels.numpy(), RATE)
        predicted = trainer.predict(pictures)
        trainer.save_checkpoint(folder / "net.ckpt")
    assert np.abs(predicted - before).max() > 1e-2  # or agreement would say nothing
    found = read_trained(folder / "net", folder / "net.ckpt")
    export_file(found, folder / "tuned.pt")
    export_file(found, folder / "tuned.onnx", source=REFERENCE)
    export_file(found, folder / "net.delta")
    return folder, pictures, predicted


def assert_predicts(found, predicted, what):
    worst = np.abs(found - predicted).max()
    log.info("%s: off by %.1e at worst, of %.2f", what, worst, np.abs(predicted).max())
    assert worst <= 1e-5 * max(1, np.abs(predicted).max()), what


def predicted_again(model, folder, pictures):
    """Compile once more, for as little training as possible."""
    pock_tvm.compile(model, folder, update="head")
    with Trainer(folder, threads=2) as trainer:
        return trainer.predict(pictures)


def with_state(path):
    """Return the original module with the tensors of a file."""
    module = copy.deepcopy(build_model("mobilenet_v2").module)
    module.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return module.eval()


def test_state_dict(trained, tmp_path):
    folder, pictures, predicted = trained
    module = with_state(folder / "tuned.pt")
    inputs = torch.tensor(pictures)
    with torch.no_grad():
        assert_predicts(module(inputs).logits.numpy(), predicted, "PyTorch")
    again = import_module(module, (inputs,), len(inputs), "again")
    assert_predicts(predicted_again(again, tmp_path / "net", pictures), predicted, "state dict")


def test_onnx(trained, tmp_path):
    folder, pictures, predicted = trained
    path = folder / "tuned.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert_predicts(run_onnx(path, pictures), predicted, "ONNX Runtime")
    again = load_model(str(path), len(pictures))
    assert_predicts(predicted_again(again, tmp_path / "net", pictures), predicted, "ONNX file")


def test_delta(trained, tmp_path):
    """On the state dict, on the ONNX file and on the artifact that it was compiled to."""
    folder, pictures, predicted = trained
    delta = folder / "net.delta"
    log.info("%s", read_delta(delta).by_kind())
    apply_delta(folder / "base.pt", delta, tmp_path / "tuned.pt")
    whole, tuned = (read_state_dict(p / "tuned.pt") for p in (folder, tmp_path))
    assert whole.keys() == tuned.keys()
    assert all(torch.equal(tuned[name], value) for name, value in whole.items())
    with torch.no_grad():
        found = with_state(tmp_path / "tuned.pt")(torch.tensor(pictures)).logits.numpy()
    assert_predicts(found, predicted, "delta on a state dict")
    apply_delta(folder / "net", delta, tmp_path / "tuned.ckpt")
    with Trainer(folder / "net", threads=2) as trainer:
        trainer.load_checkpoint(tmp_path / "tuned.ckpt")
        np.testing.assert_array_equal(trainer.predict(pictures), predicted)
    model = build_model("mobilenet_v2")
    base = export(model.module, (model.inputs,), tmp_path / "base.onnx", "dynamo", dynamic=False)
    apply_delta(base, delta, tmp_path / "tuned.onnx")
    assert_predicts(run_onnx(tmp_path / "tuned.onnx", pictures), predicted, "delta on ONNX")


def run_onnx(path, pictures):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pictures})[0]

"""Export -> import again -> predict: what the trained artifact predicts, to 1e-5."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.export import apply_delta, export_file, read_trained
from pock_tvm.frontend.torch_export import import_module


def written(trained, path, **options):
    export_file(read_trained(trained.folder, trained.checkpoint), path, **options)
    return path


def torch_inputs(trained):
    inputs = torch.tensor(trained.inputs)
    return inputs if inputs.is_floating_point() else inputs.long()


def assert_predicts(trained, module):
    found = module(torch_inputs(trained)).detach().numpy()
    np.testing.assert_allclose(found, trained.predicted, atol=1e-5)


def assert_predicts_when_compiled(trained, module, tmp_path):
    inputs = torch_inputs(trained)
    model = import_module(module, (inputs,), len(inputs), "again")
    pock_tvm.compile(model, tmp_path / "again", update=trained.update)
    with Trainer(tmp_path / "again", threads=1) as trainer:
        found = trainer.predict(trained.inputs)
    np.testing.assert_allclose(found, trained.predicted, atol=1e-5)


def assert_onnx_runtime_predicts(trained, path):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    inputs = trained.inputs
    if given.type == "tensor(int64)":
        inputs = inputs.astype("int64")
    (found,) = session.run(None, {given.name: inputs})
    np.testing.assert_allclose(found, trained.predicted, atol=1e-5)


def test_state_dict(trained, tmp_path):
    state = torch.load(written(trained, tmp_path / "net.pt"), weights_only=True)
    module = trained.module()
    module.load_state_dict(state, strict=True)
    assert_predicts(trained, module)
    assert_predicts_when_compiled(trained, module, tmp_path)


def test_safetensors(trained, tmp_path):
    state = load_file(written(trained, tmp_path / "net.safetensors"))
    module = trained.module()
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert missing == (["head.weight"] if trained.name == "tied_net" else [])  # as Hugging Face
    assert unexpected == []
    assert_predicts(trained, module)


def test_onnx_from_a_module(trained, tmp_path):
    path = written(trained, tmp_path / "net.onnx", source=trained.reference)
    assert_onnx_runtime_predicts(trained, path)
    names = {t.name for t in onnx.load(path).graph.initializer}
    assert not any(name.startswith("model.") for name in names)


def test_delta_on_a_state_dict(trained, tmp_path):
    delta = written(trained, tmp_path / "net.delta")
    base = trained.state_dict(tmp_path)
    apply_delta(base, delta, tmp_path / "tuned.pt")
    state = torch.load(tmp_path / "tuned.pt", weights_only=True)
    module = trained.module()
    module.load_state_dict(state, strict=True)
    assert_predicts(trained, module)
    whole = torch.load(written(trained, tmp_path / "whole.pt"), weights_only=True)
    assert state.keys() == whole.keys()
    assert all(torch.equal(state[name], value) for name, value in whole.items())


def test_delta_on_an_artifact(trained, tmp_path):
    delta = written(trained, tmp_path / "net.delta")
    apply_delta(trained.folder, delta, tmp_path / "tuned.ckpt")
    with Trainer(trained.folder, threads=1) as trainer:
        trainer.load_checkpoint(tmp_path / "tuned.ckpt")
        assert trainer.steps_done == 0
        np.testing.assert_array_equal(trainer.predict(trained.inputs), trained.predicted)


def test_delta_on_safetensors_and_back_to_the_bits(trained, tmp_path):
    export_file(read_trained(trained.folder), tmp_path / "base.safetensors")
    delta = written(trained, tmp_path / "net.delta")
    apply_delta(tmp_path / "base.safetensors", delta, tmp_path / "tuned.safetensors")
    tuned = load_file(tmp_path / "tuned.safetensors")
    whole = load_file(written(trained, tmp_path / "whole.safetensors"))
    assert tuned.keys() == whole.keys()
    assert all(torch.equal(tuned[name], value) for name, value in whole.items())


@pytest.mark.parametrize("trained", ["tied_net"], indirect=True)
def test_tied_tensors_stay_one(trained, tmp_path):
    delta = written(trained, tmp_path / "net.delta")
    apply_delta(trained.state_dict(tmp_path), delta, tmp_path / "tuned.pt")
    for path in (tmp_path / "tuned.pt", written(trained, tmp_path / "whole.pt")):
        state = torch.load(path, weights_only=True)
        assert state["head.weight"].data_ptr() == state["words.weight"].data_ptr()

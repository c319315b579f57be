"""Train -> export a delta -> put it on the original -> predict, for schemes that learn in part.

Two nets, each with low-rank factors and a share of the channels; the transformer with an embedding
that is updated in the rows that a batch has read.
"""

import warnings
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import small_transformer
import sparse_net
import torch
from safetensors.numpy import load_file

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.errors import ArtifactError
from pock_tvm.export import apply_delta, export_file, read_delta, read_trained
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.update import LoRA, Rule, UpdateScheme

QUARTER = Fraction(1, 4)
SCHEMES = {
    small_transformer: UpdateScheme(
        name="parts",
        trainable=("words.weight",),
        rules=(Rule(what=("first_ffn",), channels=QUARTER),),
        lora=(LoRA(rank=2, alpha=6, targets=("attention",)),),
        embeddings="lazy-rows",
    ),
    sparse_net: UpdateScheme(
        name="parts",
        trainable=("classifier.bias",),
        rules=(
            Rule(match=("last.weight",), channels=QUARTER),
            Rule(what=("depthwise",), blocks=(1,), channels=QUARTER),
        ),
        lora=(LoRA(rank=2, alpha=6, targets=("first_conv",), blocks="last 2"),),
    ),
}


@dataclass(frozen=True)
class Tuned:
    net: ModuleType
    folder: Path
    """Of the artifact, the checkpoint, the delta and the original model."""
    inputs: np.ndarray
    tokens: np.ndarray | None
    predicted: np.ndarray

    def module(self):
        return self.net.build()[0].eval()

    def __getattr__(self, name):
        suffix = {"artifact": "net", "delta": "net.delta", "base": "base.pt"}[name]
        return self.folder / suffix


def compiled(net, folder, scheme):
    module, example = net.build()
    model = import_module(module, example, net.BATCH, "net")
    pock_tvm.compile(model, folder, update=scheme, optimizer="adamw")


@pytest.fixture(scope="module", params=SCHEMES, ids=lambda net: net.__name__)
def tuned(request, tmp_path_factory):
    net = request.param
    folder = tmp_path_factory.mktemp("tuned")
    compiled(net, folder / "net", SCHEMES[net])
    rng = np.random.default_rng(0)
    tokens = None
    if net is small_transformer:
        tokens = inputs = rng.integers(5, 20, (net.BATCH, net.TOKENS)).astype("int32")
    else:
        inputs = rng.standard_normal((net.BATCH, 3, 16, 16)).astype("float32")
    labels = rng.integers(0, net.CLASSES, net.BATCH)
    with Trainer(folder / "net", threads=1) as trainer:
        before = trainer.predict(inputs)
        for _ in range(3):
            trainer.step(inputs, labels, 0.02)
        trainer.save_checkpoint(folder / "net.ckpt")
        predicted = trainer.predict(inputs)
    assert np.abs(predicted - before).max() > 1e-2  # or agreement would say nothing
    trained = read_trained(folder / "net", folder / "net.ckpt")
    export_file(trained, folder / "net.delta")
    export_file(trained, folder / "net.safetensors")
    torch.save(net.build()[0].state_dict(), folder / "base.pt")
    return Tuned(net, folder, inputs, tokens, predicted)


def test_it_holds_only_what_changed(tuned):
    update = read_trained(tuned.artifact).description.update["tensors"]
    changes = {change.name: change for change in read_delta(tuned.delta).changes}
    stored = load_file(tuned.delta)
    assert changes.keys() == update.keys()
    kinds = {done["kind"] for done in update.values()}
    assert kinds > {"lora", "channels"}
    for name, done in update.items():
        change = changes[name]
        if done["kind"] == "lora":
            assert (change.kind, change.rank, change.alpha) == ("lora", 2, 6)
            assert name not in stored
            assert stored[f"{name}#lora_A"].shape[1] == stored[f"{name}#lora_B"].shape[0] == 2
        elif done["kind"] == "channels":
            # Where a gradient is 0, a channel may stay: no more than those that were chosen.
            assert (change.kind, change.axis) == ("slices", done["axis"])
            assert set(change.index) <= set(done["channels"])
            assert 0 < change.values.size <= np.prod(change.shape) * QUARTER
        elif done["kind"] == "rows":
            assert (change.kind, change.axis) == ("slices", 0)
            assert set(change.index) <= set(tuned.tokens.reshape(-1))
    assert sum(v.nbytes for v in stored.values()) == read_delta(tuned.delta).nbytes


def assert_module_predicts(tuned, state):
    module = tuned.module()
    module.load_state_dict(state, strict=True)
    inputs = torch.tensor(tuned.inputs)
    with torch.no_grad():
        found = module(inputs.long() if tuned.tokens is not None else inputs)
    np.testing.assert_allclose(found.numpy(), tuned.predicted, atol=1e-5)


def test_on_a_state_dict(tuned, tmp_path):
    apply_delta(tuned.base, tuned.delta, tmp_path / "tuned.pt")
    state = torch.load(tmp_path / "tuned.pt", weights_only=True)
    assert_module_predicts(tuned, state)
    for name, value in load_file(tuned.folder / "net.safetensors").items():
        np.testing.assert_array_equal(state[name].numpy(), value, name)  # the very bits


def test_on_an_onnx_file(tuned, tmp_path):
    module, (example,) = tuned.net.build()
    example = example.expand(tuned.net.BATCH, *example.shape[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        place, options = tmp_path / "base.onnx", {"optimize": False, "verbose": False}
        torch.onnx.export(module.eval(), (example,), place, dynamo=True, **options)
    apply_delta(tmp_path / "base.onnx", tuned.delta, tmp_path / "tuned.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "tuned.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(
        tmp_path / "tuned.onnx", providers=["CPUExecutionProvider"]
    )
    inputs = tuned.inputs if tuned.tokens is None else tuned.inputs.astype("int64")
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs})
    np.testing.assert_allclose(found, tuned.predicted, atol=1e-5)


def test_on_the_artifact(tuned, tmp_path):
    apply_delta(tuned.artifact, tuned.delta, tmp_path / "tuned.ckpt")
    with Trainer(tuned.artifact, threads=1) as trainer:
        trainer.load_checkpoint(tmp_path / "tuned.ckpt")
        np.testing.assert_array_equal(trainer.predict(tuned.inputs), tuned.predicted)


@pytest.mark.parametrize("tuned", [sparse_net], indirect=True, ids=["sparse_net"])
def test_on_an_artifact_that_trains_the_weights_themselves(tuned, tmp_path):
    whole = UpdateScheme(name="whole", trainable=("*",))
    compiled(tuned.net, tmp_path / "whole", whole)
    apply_delta(tmp_path / "whole", tuned.delta, tmp_path / "tuned.ckpt")
    with Trainer(tmp_path / "whole", threads=1) as trainer:
        trainer.load_checkpoint(tmp_path / "tuned.ckpt")
        np.testing.assert_allclose(trainer.predict(tuned.inputs), tuned.predicted, atol=1e-5)


@pytest.mark.parametrize("tuned", [sparse_net], indirect=True, ids=["sparse_net"])
def test_an_artifact_that_adapts_otherwise_is_refused(tuned, tmp_path):
    found = read_delta(tuned.delta)
    wider = [
        replace(c, rank=3, a=np.pad(c.a, ((0, 0), (0, 1))), b=np.pad(c.b, ((0, 1), (0, 0))))
        if c.kind == "lora"
        else c
        for c in found.changes
    ]
    replace(found, changes=tuple(wider)).write(tmp_path / "wider.delta")
    with pytest.raises(ArtifactError, match=r"with rank 3 and alpha 6, .* with rank 2 and alpha 6"):
        apply_delta(tuned.artifact, tmp_path / "wider.delta", tmp_path / "tuned.ckpt")
    assert not (tmp_path / "tuned.ckpt").exists()

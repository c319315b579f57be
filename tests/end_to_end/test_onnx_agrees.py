"""A model that came through ONNX and the same model that came from PyTorch train alike."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import small_net
import torch
from onnx_exports import EXPORTERS, export

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend.onnx_file import import_onnx_file
from pock_tvm.frontend.torch_export import import_module

BATCH, STEPS = 2, 3


@dataclass(frozen=True)
class Subject:
    """How to build a model, and what its training here looks like."""

    build: Callable[[], torch.nn.Module]
    input: str
    shape: tuple[int, ...]
    words: int = 0
    rate: float = 0.01


def mobilenet_v2():
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    net = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=10))
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    return net


def resnet(**config):
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=10, **config))


def bert(**config):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(num_labels=3, attn_implementation="eager", **config)
    return BertForSequenceClassification(config)


SMALL_RESNET = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1]}
SMALL_BERT = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}
# The first is what MobileNetV2 is made of: its seventeen blocks are the slow test's.
SUBJECTS = {
    "mobilenet_v2": Subject(lambda: small_net.build()[0], "pixels", (1, 8, 8)),
    "resnet": Subject(lambda: resnet(**SMALL_RESNET), "pixel_values", (3, 32, 32)),
    "bert": Subject(lambda: bert(**SMALL_BERT), "input_ids", (12,), words=60),
}
# Fresh weights under running statistics that nobody measured: a larger rate diverges.
FULL = {
    "mobilenet_v2": Subject(mobilenet_v2, "pixel_values", (3, 224, 224), rate=1e-4),
    "resnet-50": Subject(resnet, "pixel_values", (3, 224, 224), rate=1e-4),
    "bert-base": Subject(bert, "input_ids", (128,), words=30522, rate=1e-3),
}


def agree(subject: Subject, exporters, folder) -> None:
    """Train the model from PyTorch and from each exporter's file; compare all that comes out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = subject.build().eval()
        shape = (BATCH, *subject.shape)
        x = torch.randint(0, subject.words, shape) if subject.words else torch.randn(shape)
        # Distinct statistics, biases and scales: exporters merge tensors that are equal.
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor.data += 0.05 * torch.rand_like(tensor)
    imported = {"torch": import_module(net, (x,), BATCH, "net")}
    for exporter in exporters:
        path = export(net, (x,), folder / f"{exporter}.onnx", exporter, names=(subject.input,))
        imported[exporter] = import_onnx_file(path, BATCH)
    seen = {}
    labels = np.array([1, 2], "int32")
    for way, model in imported.items():
        pock_tvm.compile(model, folder / way)
        with Trainer(folder / way) as trainer:
            batch = x.numpy().astype("int32") if subject.words else x.numpy()
            logits = trainer.predict(batch)
            losses = [trainer.step(batch, labels, subject.rate) for _ in range(STEPS)]
            names = {t.name for t in trainer.description.tensors if t.trainable}
            seen[way] = names, logits, losses, {n: trainer.tensor(n) for n in names}
    wanted = seen.pop("torch")
    assert len(wanted[0]) > 1
    assert np.isfinite(wanted[2]).all()
    assert wanted[2][-1] != wanted[2][0]  # it learns; fresh weights need not learn well
    for way, (names, logits, losses, weights) in seen.items():
        assert names == wanted[0], way
        np.testing.assert_allclose(logits, wanted[1], rtol=1e-5, atol=1e-5, err_msg=way)
        np.testing.assert_allclose(losses, wanted[2], rtol=1e-5, err_msg=way)
        for name in names:
            # A step moves weights by less than 1; float32 keeps that to 1e-5 of the change.
            np.testing.assert_allclose(weights[name], wanted[3][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SUBJECTS)
def test_small_models_agree(name, tmp_path) -> None:
    # Each exporter is tried on one of them, and both on all in the slow test below.
    exporters = ("torchscript",) if name == "mobilenet_v2" else ("dynamo",)
    agree(SUBJECTS[name], exporters, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_full_size_models_agree(name, tmp_path) -> None:
    agree(FULL[name], EXPORTERS, tmp_path)

"""What the graph does with each parameter, and tensors that have two names."""

import pytest
import small_net
import small_transformer
import torch
from torch import nn

import pock_tvm
from pock_tvm import PockError, Trainer
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.update import UpdateScheme


def inventory(build, batch=2):
    module, inputs = build()
    return {p.name: p for p in parameters_of(import_module(module, inputs, batch, "net"))}


def test_a_cnn():
    found = inventory(small_net.build)
    readers = {name: (p.reader, p.input_axis, p.pointwise) for name, p in found.items()}
    assert readers == {
        "features.stem.weight": ("conv", 1, False),
        "features.norm.weight": ("other", None, False),
        "features.norm.bias": ("other", None, False),
        "features.depthwise.weight": ("depthwise", 0, False),
        "features.depthwise.bias": ("other", None, False),
        "features.pointwise.weight": ("conv", 1, True),
        "features.pointwise.bias": ("other", None, False),
        "classifier.weight": ("linear", 1, False),
        "classifier.bias": ("other", None, False),
    }


def test_a_transformer():
    found = inventory(small_transformer.build)
    assert found["words.weight"].reader == "embedding"
    assert found["places"].reader == "other"
    assert (found["block.query.weight"].reader, found["block.up.weight"].input_axis) == (
        "linear",
        1,
    )


class Tied(nn.Module):
    """A table of words that is the output layer too, and a weight that is read as [in, out]."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 4)
        self.inner = nn.Parameter(torch.eye(4))
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids):
        return self.head((self.words(ids) @ self.inner).mean(1))


def tied():
    torch.manual_seed(0)
    return Tied(), (torch.zeros(1, 5, dtype=torch.int64),)


def test_a_tied_tensor_is_one_parameter_with_two_names():
    found = inventory(tied)
    assert list(found) == ["inner", "words.weight"]
    assert found["words.weight"].aliases == ("head.weight",)
    assert found["words.weight"].reader == "embedding"
    assert [p.name for p in found.values() if p.is_output_layer] == ["words.weight"]
    assert (found["inner"].reader, found["inner"].input_axis) == ("linear", 0)


def test_a_tied_tensor_trains_as_pytorch_trains_it(tmp_path):
    module, inputs = tied()
    model = import_module(module, inputs, 3, "tied")
    half = UpdateScheme(name="half", trainable=("*",), frozen=("head.*",))
    with pytest.raises(PockError, match=r"words.weight and head.weight are one tensor"):
        pock_tvm.compile(model, tmp_path / "half", update=half)
    assert not (tmp_path / "half").exists()
    pock_tvm.compile(model, tmp_path / "net")
    ids = torch.tensor([[1, 2, 3, 4, 5], [0, 0, 10, 9, 8], [7, 7, 7, 7, 1]])
    labels = torch.tensor([3, 0, 10])
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    with Trainer(tmp_path / "net") as trainer:
        for _ in range(3):
            loss = nn.functional.cross_entropy(module(ids), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            got = trainer.step(ids.numpy().astype("int32"), labels.numpy().astype("int32"), 0.1)
            assert got == pytest.approx(loss.item(), rel=1e-6)
        wanted = module.words.weight.detach().numpy()
        assert trainer.tensor("words.weight") == pytest.approx(wanted, rel=1e-5, abs=1e-7)

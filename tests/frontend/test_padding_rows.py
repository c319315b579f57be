"""The padding row of an embedding learns nothing, and is read like any other."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import pock_tvm
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.relay_passes.rewrite import bindings_of


class Bag(nn.Module):
    def __init__(self, padding: int | None) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4, padding_idx=padding)
        self.head = nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.words(ids)).mean(1))


IDS = torch.tensor([[2, 5, 2, 0], [6, 2, 1, 1]])
LABELS = torch.tensor([0, 2])


def bag(padding: int | None) -> Bag:
    torch.manual_seed(0)
    net = Bag(padding)
    nn.init.normal_(net.words.weight)  # a padding row of zeros would hide a forward that skips it
    return net


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("padding", [2, 0, None])
def test_three_steps_follow_pytorch(padding, optimizer, tmp_path) -> None:
    net = bag(padding)
    model = import_module(net, (IDS,), 2, "bag")
    pock_tvm.compile(model, tmp_path / "bag", optimizer=optimizer)
    theirs = copy.deepcopy(net)
    rule = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    update = rule(theirs.parameters(), lr=0.1)
    with pock_tvm.Trainer(tmp_path / "bag") as trainer:
        for _ in range(3):
            update.zero_grad()
            loss = nn.functional.cross_entropy(theirs(IDS), LABELS)
            loss.backward()
            update.step()
            ours = trainer.step(IDS.numpy(), LABELS.numpy(), 0.1)
            assert ours == pytest.approx(loss.item(), rel=1e-6)
        learned = trainer.tensor("words.weight")
    np.testing.assert_allclose(learned, theirs.words.weight.detach().numpy(), rtol=1e-5, atol=1e-6)
    if padding is not None and optimizer == "sgd":
        assert np.array_equal(learned[padding], net.words.weight[padding].detach().numpy())


@pytest.mark.parametrize(("padding", "stops"), [(2, 1), (-1, 1), (None, 0)])
def test_only_a_table_with_a_padding_row_changes(padding, stops) -> None:
    main = import_module(bag(padding), (IDS,), 2, "bag").mod["main"]
    names = [getattr(getattr(b.value, "op", None), "name", "") for b in bindings_of(main)]
    assert names.count("pock.stop_gradient") == stops

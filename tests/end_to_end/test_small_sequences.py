"""Recurrent nets and fused attention: five losses follow PyTorch's."""

import copy

import pytest
import torch
from torch import nn

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend.torch_export import import_module

BATCH, LENGTH, WORDS, RATE = 3, 6, 20, 0.5


class Recurrent(nn.Module):
    """Predict each next word from a state that is carried along."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.recurrent = kind(8, 12, batch_first=True)
        self.head = nn.Linear(12, WORDS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(self.embedding(ids))[0])


class Attending(nn.Module):
    """The same by one causal attention of four heads."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.projection = nn.Linear(16, 48)
        self.head = nn.Linear(16, WORDS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        parts = self.projection(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in parts)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(seen.transpose(1, 2).flatten(2) + x)


NETS = {
    "GRU": lambda: Recurrent(nn.GRU),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "attention": Attending,
}


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # torch.export, of _flat_weights
@pytest.mark.parametrize("name", NETS)
def test_five_losses_follow_pytorch(name: str, tmp_path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = NETS[name]()
        ids, labels = torch.randint(0, WORDS, (2, BATCH, LENGTH))
    model = import_module(copy.deepcopy(module), (ids,), BATCH, "net")
    pock_tvm.compile(model, tmp_path / "net")
    optimizer = torch.optim.SGD(module.parameters(), RATE)
    with Trainer(tmp_path / "net", threads=2) as trainer:
        for _ in range(5):
            loss = nn.functional.cross_entropy(module(ids).flatten(0, 1), labels.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ours = trainer.step(ids.numpy(), labels.numpy(), RATE)
            assert ours == pytest.approx(loss.item(), rel=1e-5)

"""Attention in tiles trains as attention written out does, in less memory."""

import pytest
import torch

import pock_tvm
from pock_tvm.frontend.torch_export import import_module

LONG = 160
"""Two tiles and a half of keys and queries: more scores than there are activations."""


class OneLayer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 16)
        self.project = torch.nn.Linear(16, 48)
        self.head = torch.nn.Linear(16, 3)

    def forward(self, tokens):
        x = self.embed(tokens)
        heads = self.project(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return self.head((x + y.transpose(1, 2).flatten(2)).mean(1))


def test_losses_are_pytorchs_and_the_scores_are_gone(tmp_path):
    torch.manual_seed(0)
    net = OneLayer()
    tokens, labels = torch.randint(0, 50, (2, LONG)), torch.tensor([0, 2])
    model = import_module(net, (tokens[:1],), 2, "one_layer")
    losses, arenas = {}, {}
    for attention in ("full", "flash"):
        built = pock_tvm.compile(model, tmp_path / attention, attention=attention)
        report = built.report()
        tiled, written_out = report["attention"].values()
        assert (tiled, written_out) == ((1, 0) if attention == "flash" else (0, 1))
        arenas[attention] = report["transient_bytes"]
        with pock_tvm.Trainer(tmp_path / attention) as trainer:
            losses[attention] = [
                trainer.step(tokens.numpy().astype("int32"), labels.numpy().astype("int32"), 0.5)
                for _ in range(4)
            ]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    wanted = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(tokens), labels)
        loss.backward()
        optimizer.step()
        wanted.append(loss.item())
    assert wanted[-1] < 0.9 * wanted[0]
    # float32 sums over 160 keys, four updates on: a few dozen roundings of 6e-8
    assert losses["flash"] == pytest.approx(wanted, rel=1e-5)
    assert losses["full"] == pytest.approx(wanted, rel=1e-5)
    scores = 2 * 2 * LONG * LONG * 4
    assert arenas["full"] - arenas["flash"] > scores / 2

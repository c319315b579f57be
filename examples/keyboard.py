"""Search for what a keyboard's next-character model has to learn of its user's own text.

    python -m examples.keyboard [--output DIR] [--results DIR] [--seed N] [--fast]

A small transformer has read the reference of the Python language; its user is a lawyer.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from examples import adaptation
from examples.texts import ALPHABET, legal_texts, reference_text, split_texts, windows
from pock_tvm.frontend.torch_export import import_module

BATCH = 8
LENGTH = 40
SETTINGS = replace(adaptation.THOROUGH, steps=40, seeds=1, proof_steps=150)


class Block(nn.Module):
    """Norm, causal attention, norm, two layers; each added to what came."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block on (samples, time, width)."""
        y = self.norm1(x)
        samples, time, width = y.shape
        q, k, v = (
            layer(y).reshape(samples, time, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(samples, time, width))
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm2(x))))


class Keyboard(nn.Module):
    """Logits of the next character, at each place of a text."""

    def __init__(self, blocks: int = 4, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), width)
        self.places = nn.Parameter(torch.randn(LENGTH, width) / 10)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(ALPHABET))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Return (samples, time, characters)."""
        return self.head(self.norm(self.blocks(self.characters(text) + self.places)))


def prepare(folder: Path, seed: int, *, fast: bool) -> adaptation.Adaptation:
    """Read the reference; return the model and a lawyer's text."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Keyboard(blocks=1, width=16) if fast else Keyboard()
    general = windows(reference_text(), LENGTH, 400 if fast else 20_000, seed)
    example = (torch.from_numpy(general.samples[:1]),)
    wide = import_module(net, example, 32, "keyboard")
    adaptation.pretrain(
        net, wide, general, folder / "pretrained", steps=20 if fast else 2500, learning_rate=3e-3
    )
    return adaptation.Adaptation(
        name="keyboard",
        story="A transformer of four blocks, 64 wide, predicts the next character; it has read the "
        "reference of the Python language (`pydoc_data`), and adapts to a lawyer's writing: "
        f"licences of Debian (half of each), {LENGTH} characters a sample; tested on their ends.",
        model=import_module(net.eval(), example, BATCH, "keyboard"),
        data=split_texts(legal_texts(), LENGTH, seed),
        settings=SETTINGS,
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run from the command line."""
    return adaptation.main("keyboard", prepare, arguments)


if __name__ == "__main__":
    main()

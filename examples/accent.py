"""Search for what a recogniser of spoken words has to learn of another accent.

    python -m examples.accent [--output DIR] [--results DIR] [--seed N] [--fast]

A small convolutional net tells ten words apart that American voices say; then voices of Scotland,
the Caribbean and Lancashire speak to it. The speech is synthesised by ``espeak-ng`` (a Debian
package), with several speakers, speeds and pitches, and noise.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from examples import adaptation
from examples.speech import FRAMES, MELS, WORDS, spoken
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.search.samples import Split

BATCH = 8
AT_HOME = ("en-us+m1", "en-us+m3", "en-us+f1", "en-us+f2", "en-us+m5")
ABROAD = ("en-gb-scotland+f4", "en-029+m7", "en-gb-x-gbclan+croak")
SETTINGS = replace(adaptation.THOROUGH, learning_rate=1e-3, steps=60, seeds=3, proof_steps=240)


class Recogniser(nn.Module):
    """Convolutions over time and pitch, each halving both, then the mean over time."""

    def __init__(self, channels: Sequence[int] = (16, 24, 32, 48)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((1, *channels[:-1]), channels, strict=True):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()]
            layers += [nn.Conv2d(after, after, 3, 1, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1], len(WORDS))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return (samples, words) of log-mel pictures (samples, 1, FRAMES, MELS)."""
        return self.head(self.layers(pictures).mean((2, 3)))


def prepare(folder: Path, seed: int, *, fast: bool) -> adaptation.Adaptation:
    """Train on American voices; return the net and the voices of other places."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Recogniser((4, 8) if fast else (16, 24, 32, 48))
    home = spoken(AT_HOME[: 1 if fast else None], 4 if fast else 40, seed)
    example = (torch.zeros(1, 1, FRAMES, MELS),)
    wide = import_module(net, example, 32, "accent")
    adaptation.pretrain(
        net, wide, home, folder / "pretrained", steps=10 if fast else 1000, learning_rate=2e-3
    )
    voices, each = (ABROAD[:1], 10) if fast else (ABROAD, 18)
    abroad = spoken(voices, each, seed + 1)
    order = np.random.default_rng(seed).permutation(len(abroad))
    cuts = np.cumsum([len(order) * 3 // 10, len(order) * 2 // 10])
    return adaptation.Adaptation(
        name="accent",
        story="A net of eight convolutions that tells ten words of American voices apart hears "
        "voices of Scotland, the Caribbean and Lancashire (all by espeak-ng, with noise).",
        model=import_module(net.eval(), example, BATCH, "accent"),
        data=Split(*(abroad.take(part) for part in np.split(order, cuts))),
        settings=SETTINGS,
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run from the command line."""
    return adaptation.main("accent", prepare, arguments)


if __name__ == "__main__":
    main()

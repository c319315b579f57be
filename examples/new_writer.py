"""Search for what a reader of handwriting has to learn of a new writer.

    python -m examples.new_writer [--output DIR] [--results DIR] [--seed N] [--fast]

The net of ``examples.handwriting`` has learned one writer's digits; the writer that it meets has a
hand of her own, and other labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from examples import adaptation
from examples.digit_net import BLOCKS, TWO_BLOCKS, build
from examples.digits import two_writers
from examples.handwriting import OTHER_END, Settings, pretrain
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.search.samples import Samples, Split

BATCH = 8
SETTINGS = replace(adaptation.THOROUGH, steps=40, seeds=2, proof_steps=200)


def prepare(folder: Path, seed: int, *, fast: bool) -> adaptation.Adaptation:
    """Train on the first writer; return the net and the second writer's pictures."""
    first, second = two_writers(seed)
    settings = Settings(blocks=TWO_BLOCKS if fast else BLOCKS, pretrain_epochs=2 if fast else 10)
    net = build(seed, settings.blocks)
    pretrain(net, first, settings, seed, folder / "pretrained")
    net.eval()
    train, test = (part.relabelled(OTHER_END) for part in (second.train, second.test))
    parts = [(train, slice(0, 150)), (train, slice(150, 250)), (test, slice(0, 250))]
    data = Split(*(Samples(part.pictures[cut], part.labels[cut]) for part, cut in parts))
    example = torch.from_numpy(np.zeros_like(train.pictures[:1]))
    return adaptation.Adaptation(
        name="new_writer",
        story="A small MobileNetV2 that reads one writer's digits learns another's, whose hand is "
        "slanted, smaller and finer (scikit-learn's scans, the second writer made of scans that "
        "the first never showed), and whose labels run from the other end.",
        model=import_module(net, (example,), BATCH, "digits"),
        data=data,
        settings=SETTINGS,
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run from the command line."""
    return adaptation.main("new_writer", prepare, arguments)


if __name__ == "__main__":
    main()

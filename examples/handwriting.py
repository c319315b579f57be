"""The story of the mission on real pictures: a reader of handwriting meets a new writer.

    python -m examples.handwriting [--output DIR] [--seed N] [--fast] [--json]

1. A small MobileNet learns the digits of one writer, compiled and trained by pock.
2. It moves to another place. The writer there has a hand of her own, and the digits stand for bins
   that are numbered from the other end, so every label changes.
3. It learns on from 250 of her pictures on the spot: the head alone, every bias, a sparse choice of
   late layers, everything. Each under the same recipe, by pock and by PyTorch eager from the same
   weights on the same batches.

Whatever comes out is printed.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import pock_tvm
from examples.digit_net import BLOCKS, TWO_BLOCKS, Block, DigitNet, build
from examples.digits import CLASSES, Samples, Writer, two_writers
from examples.learners import Learner, PockLearner, TorchLearner
from examples.report import draw, print_table
from examples.weights import take_back
from pock_tvm.errors import DivergedError
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.optimizers import SGD
from pock_tvm.sampling import samples_at
from pock_tvm.update import UpdateScheme, parse_update

BUDGET_BYTES = 1280 * 1024
"""What the device can spare for a step beyond the frozen weights: everything that a step writes."""

OTHER_END = np.arange(CLASSES)[::-1].copy()
"""Digit -> bin at the new place; at the old one they are the same."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Size of the story."""

    blocks: Sequence[Block] = BLOCKS
    schemes: tuple[str, ...] = ("head", "bias", "sparse", "full")
    pretrain_epochs: int = 10
    pretrain_batch: int = 32
    pretrain_rate: float = 0.05
    epochs: int = 10
    batch: int = 8
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)
    """Each scheme takes the one that does best on pictures held out of a trial."""
    held_out: int = 50


FAST = Settings(
    blocks=TWO_BLOCKS,
    schemes=("sparse", "full"),
    pretrain_epochs=6,
    epochs=8,
    rates=(0.003,),
)


@dataclass(kw_only=True)
class Run:
    """One system learning under one scheme."""

    system: str
    scheme: str
    parameters: int
    rate: float
    transient_bytes: int
    state_bytes: int
    accuracy: float = 0.0
    step_ms: float = 0.0
    losses: list[float] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)
    """(steps done, accuracy on the new writer's test pictures)."""

    @property
    def written_bytes(self) -> int:
        """Everything that a step writes."""
        return self.transient_bytes + self.state_bytes


@dataclass(kw_only=True)
class Story:
    """What the table and the picture are made of."""

    seed: int
    first_writer: float
    """Accuracy on the first writer's test pictures after pre-training."""
    new_hand: float
    """On the second writer's, if the digits still meant what they did."""
    before: float
    """On the second writer's with the labels of the new place."""
    budget_bytes: int
    runs: list[Run]
    elapsed_s: float = 0.0

    def loss_difference(self, steps: int | None = None) -> float:
        """Return how far pock's and PyTorch's losses are apart, over the loss of the first step."""
        by_scheme: dict[str, list[np.ndarray]] = {}
        for run in self.runs:
            by_scheme.setdefault(run.scheme, []).append(np.array(run.losses[:steps]))
        return max(float(np.abs(a - b).max() / b[0]) for a, b in by_scheme.values())

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        differences = {
            "loss_difference_first_step": self.loss_difference(1),
            "loss_difference_five_steps": self.loss_difference(5),
            "loss_difference_all_steps": self.loss_difference(),
        }
        return {**asdict(self), **differences}


def choose_schemes(net: DigitNet, names: Sequence[str]) -> list[UpdateScheme]:
    """Describe what learns.

    The sparse scheme follows what a new hand and new labels need, and what that costs. New
    labels: the head. New strokes: in the later half of the blocks the first 1x1 convolution, which
    mixes the features that it is given, and the biases. A bias's gradient needs no activation at
    all; the convolutions' inputs are small there, for these blocks see pictures of 6 × 6 and 3 × 3;
    and before them nothing is differentiated, so the large activations of the early blocks die
    during the forward pass.
    """
    late = range(len(net.blocks) // 2, len(net.blocks))
    patterns = [
        f"blocks.{i}.{what}" for i in late for what in ("expand.conv.weight", "*.norm.bias")
    ]
    parameters = [name for name, _ in net.named_parameters()]
    known = {name: parse_update(name, parameters) for name in ("head", "full")}
    known["sparse"] = UpdateScheme(name="sparse", trainable=("head.*", *patterns))
    known["bias"] = UpdateScheme(name="bias", trainable=("head.*", "*.norm.bias"))
    return [known[name] for name in names]


def pretrain(net: DigitNet, writer: Writer, settings: Settings, seed: int, folder: Path) -> float:
    """Train ``net`` with pock, batch norm learning its statistics; return the test accuracy."""
    batch = settings.pretrain_batch
    example = torch.from_numpy(writer.train.pictures[:1])
    model = import_module(net, (example,), batch, "digits")
    optimizer = SGD(momentum=0.9)
    pock_tvm.compile(model, folder, optimizer=optimizer, batch_norm="train")
    train = writer.train
    steps = settings.pretrain_epochs * len(train.labels) // batch
    with pock_tvm.Trainer(folder) as trainer:
        trainer.fit(
            train.pictures,
            train.labels,
            steps=steps,
            learning_rate=lambda step: settings.pretrain_rate * (1 - step / steps),
            seed=seed,
        )
        found = trainer.evaluate(writer.test.pictures, writer.test.labels)
        take_back(trainer, net, folder.with_suffix(".safetensors"))
    assert found.accuracy is not None
    return found.accuracy


def draw_batch(samples: Samples, seed: int, step: int, batch: int) -> Samples:
    """Return the batch that step ``step`` of a run takes."""
    chosen = samples_at(seed, len(samples.labels), step * batch, batch)
    return Samples(samples.pictures[chosen], samples.labels[chosen])


def choose_rate(learner: Learner, train: Samples, settings: Settings, seed: int) -> float:
    """Try each rate on a part of the pictures; return the one with the best loss on the rest."""
    kept = train.first(len(train.labels) - settings.held_out)
    held_out = Samples(train.pictures[len(kept.labels) :], train.labels[len(kept.labels) :])
    steps = settings.epochs * len(kept.labels) // settings.batch
    losses = {}
    for rate in settings.rates:
        learner.reset()
        try:
            for step in range(steps):
                batch = draw_batch(kept, seed, step, settings.batch)
                learner.step(batch, rate * (1 - step / steps))
            losses[rate] = learner.evaluate(held_out)[0]
        except DivergedError:
            losses[rate] = math.inf
    learner.reset()
    return min(losses, key=losses.__getitem__)


def learn_side_by_side(
    learners: dict[str, Learner],
    runs: dict[str, Run],
    writer: Writer,
    settings: Settings,
    seed: int,
) -> None:
    """Fill ``runs``: every system takes step 0, then every system step 1, and so on."""
    per_epoch = -(-len(writer.train.labels) // settings.batch)
    steps = settings.epochs * per_epoch
    times: dict[str, list[float]] = {system: [] for system in learners}
    for step in range(steps + 1):
        if step % per_epoch == 0:
            for system, learner in learners.items():
                runs[system].curve.append((step, learner.evaluate(writer.test)[1]))
        if step == steps:
            break
        batch = draw_batch(writer.train, seed, step, settings.batch)
        for system, learner in learners.items():
            started = time.perf_counter()
            loss = learner.step(batch, runs[system].rate * (1 - step / steps))
            times[system].append(time.perf_counter() - started)
            runs[system].losses.append(loss)
    for system, run in runs.items():
        run.accuracy = run.curve[-1][1]
        run.step_ms = 1e3 * statistics.median(times[system])


def tell_story(settings: Settings, seed: int, folder: Path, tell: Console) -> Story:
    """Live through all of it.

    Args:
        settings: its size.
        seed: of the split, the weights and the order of samples.
        folder: where the artifacts go.
        tell: where progress goes.
    """
    started = time.perf_counter()
    first, second = two_writers(seed)
    net = build(seed, settings.blocks)
    tell.print("pre-training with pock on the first writer …")
    first_accuracy = pretrain(net, first, settings, seed, folder / "pretrain")
    moved = Writer(second.train.relabelled(OTHER_END), second.test.relabelled(OTHER_END))
    example = moved.train.first(settings.batch)
    story = Story(
        seed=seed,
        first_writer=first_accuracy,
        new_hand=0.0,
        before=0.0,
        budget_bytes=BUDGET_BYTES,
        runs=[],
    )
    for scheme in choose_schemes(net, settings.schemes):
        tell.print(f"fine-tuning {scheme.name}: compiling …")
        pock = PockLearner(net, example, scheme, folder / scheme.name)
        learners: dict[str, Learner] = {
            "pock": pock,
            "PyTorch": TorchLearner(net, example, scheme),
        }
        story.new_hand = pock.evaluate(second.test)[1]
        story.before = pock.evaluate(moved.test)[1]
        rate = choose_rate(pock, moved.train, settings, seed)
        runs = {
            system: Run(
                system=system,
                scheme=scheme.name,
                parameters=pock.report["trainable_parameters"],
                rate=rate,
                transient_bytes=learner.transient_bytes,
                state_bytes=learner.state_bytes,
            )
            for system, learner in learners.items()
        }
        learn_side_by_side(learners, runs, moved, settings, seed)
        pock.trainer.close()
        story.runs += runs.values()
        tell.print(f"fine-tuning {scheme.name}: accuracy {runs['pock'].accuracy:.1%}")
    draw(story, first.test, second.test, moved.test, folder / "handwriting.png")
    story.elapsed_s = time.perf_counter() - started
    return story


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.handwriting")
    parser.add_argument("--output", type=Path, default=Path("demo-out"), help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="a small net and few steps")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    tell = Console(stderr=True)
    settings = FAST if options.fast else Settings()
    story = tell_story(settings, options.seed, options.output, tell)
    tell.print(f"picture: {options.output / 'handwriting.png'}")
    if options.json:
        json.dump(story.as_json(), sys.stdout)
        print()
    else:
        print_table(story)


if __name__ == "__main__":
    main()

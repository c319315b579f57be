"""Bytes of a training step beside those that Tiny Training Engine reports for microcontrollers.

    python -m benchmarks.tiny_training

Plans, without compiling, the nets of Lin et al. 2022 ("On-Device Training Under 256KB Memory") at
128 x 128, ten classes, batch 1: every convolution's weight and bias ("full"), and the published
scheme of about 100 KB ("sparse": biases of the last n convolutions, some input channels of some
weights; MIT's ``tiny-training``, ``compilation/mcu_ir_gen.py``). A bias is that of the batch
normalization, whose scale is folded there and frozen here; the classifier learns in all of them.

Their elements are bytes (8-bit weights and activations) and ours are float32, so that a plan as
good as theirs would need four times the bytes. Ours are transients: activations, gradients, batch;
what learns lies beside them (``state_bytes``).
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.memory import plan
from pock_tvm.frontend.zoo import build_zoo_model
from pock_tvm.frontend.zoo.inverted_bottlenecks import Block, InvertedBottlenecks, divisible
from pock_tvm.update import Rule, UpdateScheme

RESULTS = Path(__file__).parent / "results" / "tiny_training.md"
MODULE = "benchmarks.tiny_training"
"""Under which the importer finds the nets; run as a program, this module has another name."""
PIXELS, CLASSES = 128, 10

Built = tuple[nn.Module, tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Published:
    """A scheme and the kilobytes that its authors report.

    Attributes:
        biases: the number of last convolutions whose biases learn.
        weights: by position among the convolutions, the share of input channels that learn.
        full: training everything.
        sparse: the scheme.
        reordered: the scheme, each update right behind its gradient.
    """

    biases: int
    weights: dict[int, Fraction]
    full: int
    sparse: int
    reordered: int


def _shares(positions: str, shares: str) -> dict[int, Fraction]:
    pairs = zip(positions.split("-"), shares.split("-"), strict=True)
    return {int(position): Fraction(share) for position, share in pairs}


def mobilenet_v2_035() -> Built:
    """MobileNetV2 0.35 without the last 1x1 convolution, as there."""
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
    table += ((6, 160, 3, 2), (6, 320, 1, 1))
    read = first = divisible(32 * 0.35)
    blocks = []
    for expansion, channels, repeats, stride in table:
        out = divisible(channels * 0.35)
        for i in range(repeats):
            blocks.append(Block(read * expansion, out, 3, stride if i == 0 else 1))
            read = out
    return InvertedBottlenecks(first, blocks, CLASSES).eval(), _picture()


def proxyless_03() -> Built:
    """ProxylessNAS-mobile 0.3."""
    return _with_ten_classes("proxyless")


def mcunet_5fps() -> Built:
    """MCUNet-5fps."""
    return _with_ten_classes("mcunet")


def _with_ten_classes(name: str) -> Built:
    net, _ = build_zoo_model(name)
    assert isinstance(net, InvertedBottlenecks)
    net.classifier.linear = nn.Linear(net.classifier.linear.in_features, CLASSES)
    return net.eval(), _picture()


def _picture() -> tuple[torch.Tensor, ...]:
    return (torch.zeros(1, 3, PIXELS, PIXELS),)


PUBLISHED: dict[Callable[[], Built], Published] = {
    mobilenet_v2_035: Published(
        25, _shares("27-30-33-36-39-42-45-48", "1-1-1-1-1-1/8-1/2-1"), 2939, 335, 141
    ),
    proxyless_03: Published(
        25, _shares("36-39-42-45-48-51-54-57", "1-1/2-1-1-1/4-1/2-1-1"), 2745, 326, 135
    ),
    mcunet_5fps: Published(22, _shares("21-24-27-30-36-39", "1-1-1-1-1/8-1/4"), 3650, 560, 173),
}


def scheme(net: nn.Module, published: Published | None) -> UpdateScheme:
    """Return what learns: all weights and biases of convolutions without ``published``."""
    convolutions = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    biases = [name.removesuffix("conv") + "bn.bias" for name in convolutions]
    if published is None:
        weights = [f"{name}.weight" for name in convolutions]
        return UpdateScheme(name="full", trainable=("classifier.*", *biases, *weights))
    rules = [
        Rule(match=(f"{convolutions[position]}.weight",), channels=share)
        for position, share in published.weights.items()
    ]
    learn = ("classifier.*", *biases[-published.biases :])
    return UpdateScheme(name="sparse", trainable=learn, rules=tuple(rules))


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Plan all nets, print a line each, and return the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name} as well")
    options = parser.parse_args(arguments)
    rows = []
    for build, published in PUBLISHED.items():
        net, _ = build()
        for learns in (None, published):
            row = plan(f"{MODULE}:{build.__name__}", 1, scheme(net, learns), "sgd")
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.save:
        RESULTS.write_text(_table(rows), encoding="utf-8")
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Training memory beside Tiny Training Engine's",
        "",
        "`python -m benchmarks.tiny_training --save`: batch 1, 128 x 128, ten classes, SGD.",
        "Theirs: kilobytes as reported (Lin et al. 2022), 8-bit elements. Ours: KiB of float32 as",
        "planned, transients, which are every byte but weights; *import order* is the largest live",
        "set of the graph as it was derived.",
        "",
        "| | " + " | ".join(build.__name__ for build in PUBLISHED) + " |",
        "|---|---|---|---|",
    ]
    full, sparse = rows[::2], rows[1::2]
    theirs = PUBLISHED.values()
    table: dict[str, list[int]] = {
        "full: theirs (8 bit)": [one.full for one in theirs],
        "full: ours, import order (32 bit)": _kib(full, "import_order_bytes"),
        "full: ours (32 bit)": _kib(full, "transient_bytes"),
        "sparse: theirs (8 bit)": [one.sparse for one in theirs],
        "sparse: ours, import order (32 bit)": _kib(sparse, "import_order_bytes"),
        "sparse + reorder: theirs (8 bit)": [one.reordered for one in theirs],
        "sparse + reorder: ours (32 bit)": _kib(sparse, "transient_bytes"),
        "the same in Ki elements": _kib(sparse, "transient_bytes", 4096),
        "prediction alone: ours (32 bit)": _kib(sparse, "predict_bytes"),
        "what learns, sparse: ours (32 bit)": _kib(sparse, "state_bytes"),
    }
    lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in table.items()]
    lines += [
        "",
        "The sparse step needs no byte more than prediction: the largest live set of both is an",
        "expanded tensor of the first blocks and its depthwise convolution's result. MobileNetV2's",
        "expanded tensor is 192 Ki elements by itself, more than the 141 KB that are reported.",
    ]
    return "\n".join(lines) + "\n"


def _kib(rows: list[dict[str, Any]], key: str, unit: int = 1024) -> list[int]:
    return [round(row[key] / unit) for row in rows]


if __name__ == "__main__":
    main()

"""A small MobileNetV2 (Sandler et al. 2018) for 24 × 24 pictures: 66 thousand parameters."""

from collections.abc import Sequence

import torch
from torch import nn

from examples.digits import CLASSES

Block = tuple[int, int, int]
"""An inverted residual: channels in, channels out, stride."""

BLOCKS: tuple[Block, ...] = (
    (16, 24, 1),
    (24, 24, 1),
    (24, 40, 2),
    (40, 40, 1),
    (40, 64, 2),
    (64, 64, 1),
)
TWO_BLOCKS: tuple[Block, ...] = ((16, 24, 2), (24, 24, 1))
"""For a run of seconds."""
EXPANSION = 3


class ConvNorm(nn.Sequential):
    """A convolution without bias, batch norm, and ReLU6 unless it is linear."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, *, relu: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out)
        if relu:
            self.relu = nn.ReLU6()


class InvertedResidual(nn.Module):
    """Expand 1x1, filter each channel 3x3, project 1x1; add the input where shapes agree."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * channels
        self.expand = ConvNorm(channels, wide, 1, relu=True)
        self.depthwise = ConvNorm(wide, wide, 3, stride, wide, relu=True)
        self.project = ConvNorm(wide, out, 1, relu=False)
        self.adds = channels == out and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class DigitNet(nn.Module):
    """Stem, inverted residuals, average pool, classifier."""

    def __init__(self, blocks: Sequence[Block] = BLOCKS) -> None:
        super().__init__()
        self.stem = ConvNorm(1, blocks[0][0], 3, 2, relu=True)
        self.blocks = nn.Sequential(*(InvertedResidual(*block) for block in blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(blocks[-1][1], CLASSES)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the logits of pictures (samples, 1, SIDE, SIDE)."""
        return self.head(self.pool(self.blocks(self.stem(pictures))).flatten(1))


def build(seed: int = 0, blocks: Sequence[Block] = BLOCKS) -> DigitNet:
    """Return the net with weights drawn from ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DigitNet(blocks)

"""Networks of inverted bottlenecks from a table: MCUNet, ProxylessNAS, EfficientNet-lite0.

Parameters are called as in the checkpoints of MIT's ``mcunet`` (``blocks.3.mobile_inverted_conv.
inverted_bottleneck.conv.weight``), so that those load.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pock_tvm.frontend.zoo.weights import draw_convolutions, measure_statistics

Built = tuple[nn.Module, tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Block:
    """Expand by a 1x1 convolution to ``middle`` channels, a depthwise one, reduce to ``out``.

    ``middle`` equal to the input's channels leaves the expansion out.
    """

    middle: int
    out: int
    kernel: int
    stride: int = 1


# Channels of the first convolution 16, input 96 x 96, no mixing layer.
_MCUNET_5FPS = (
    Block(16, 8, 3),
    Block(32, 16, 3, 2),
    Block(48, 16, 3),
    Block(48, 24, 7, 2),
    Block(120, 24, 3),
    Block(120, 40, 3, 2),
    Block(160, 40, 7),
    Block(160, 48, 5),
    Block(144, 48, 3),
    Block(192, 48, 3),
    Block(240, 96, 7, 2),
    Block(384, 96, 5),
    Block(384, 96, 5),
    Block(576, 160, 3),
)
# (expansion, out, kernel, stride) of ProxylessNAS mobile; the first convolution has 32.
_PROXYLESS_MOBILE = (
    (1, 16, 3, 1),
    (3, 32, 5, 2),
    (3, 32, 3, 1),
    (3, 40, 7, 2),
    (3, 40, 3, 1),
    (3, 40, 5, 1),
    (3, 40, 5, 1),
    (6, 80, 7, 2),
    (3, 80, 5, 1),
    (3, 80, 5, 1),
    (3, 80, 5, 1),
    (6, 96, 5, 1),
    (3, 96, 5, 1),
    (3, 96, 5, 1),
    (3, 96, 5, 1),
    (6, 192, 7, 2),
    (6, 192, 7, 1),
    (3, 192, 7, 1),
    (3, 192, 7, 1),
    (6, 320, 7, 1),
)
# (expansion, out, kernel, stride, repeats) of EfficientNet-B0, whose first and last stages
# EfficientNet-lite keeps; no squeeze-and-excitation, ReLU6.
_EFFICIENTNET_LITE0 = (
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)


class _Convolution(nn.Module):
    """Convolution, batch normalization and ReLU6."""

    def __init__(
        self,
        read: int,
        out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            read, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out)
        self.act = nn.ReLU6() if act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))


class _Bottleneck(nn.Module):
    def __init__(self, read: int, block: Block) -> None:
        super().__init__()
        expands = block.middle != read
        self.inverted_bottleneck = _Convolution(read, block.middle, 1) if expands else None
        self.depth_conv = _Convolution(
            block.middle, block.middle, block.kernel, block.stride, block.middle
        )
        self.point_linear = _Convolution(block.middle, block.out, 1, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.inverted_bottleneck is not None:
            x = self.inverted_bottleneck(x)
        return self.point_linear(self.depth_conv(x))


class _Residual(nn.Module):
    def __init__(self, read: int, block: Block) -> None:
        super().__init__()
        self.mobile_inverted_conv = _Bottleneck(read, block)
        self.has_shortcut = block.stride == 1 and block.out == read

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mobile_inverted_conv(x)
        return x + y if self.has_shortcut else y


class InvertedBottlenecks(nn.Module):
    """First convolution of stride 2, blocks, mean over the pixels, linear classifier."""

    def __init__(self, first: int, blocks: Sequence[Block], classes: int, mixed: int = 0) -> None:
        """Build the net.

        Args:
            first: channels of the first convolution.
            blocks: the table.
            classes: outputs.
            mixed: channels of a 1x1 convolution before the mean; 0 for none.
        """
        super().__init__()
        self.first_conv = _Convolution(3, first, 3, 2)
        channels = [first, *(block.out for block in blocks)]
        self.blocks = nn.Sequential(
            *(_Residual(read, block) for read, block in zip(channels, blocks, strict=False))
        )
        self.feature_mix_layer = _Convolution(channels[-1], mixed, 1) if mixed else nn.Identity()
        head = nn.Linear(mixed or channels[-1], classes)
        self.classifier = nn.Sequential(OrderedDict(linear=head))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, classes] of pictures [batch, 3, height, width]."""
        x = self.feature_mix_layer(self.blocks(self.first_conv(pixel_values)))
        return self.classifier(x.mean((2, 3)))


def _built(net: InvertedBottlenecks, pixels: int) -> Built:
    draw_convolutions(net, ("point_linear",))
    example = torch.zeros(1, 3, pixels, pixels)
    measure_statistics(net, example)
    return net, (example,)


def divisible(channels: float) -> int:
    """Round to a multiple of 8, never by more than a tenth down."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _small(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Divide channels by 4, and leave out all but the first two blocks of each width."""
    kept: list[Block] = []
    for block in blocks:
        if len(kept) < 2 or block.out != kept[-2].out:
            kept.append(block)
    return tuple(Block(max(4, b.middle // 4), max(2, b.out // 4), b.kernel, b.stride) for b in kept)


def mcunet(*, small: bool = False, pixels: int = 96, classes: int = 1000) -> Built:
    """MCUNet-5fps, 96 x 96, 1000 classes (Lin et al. 2020; the table that MIT's mcunet publishes).

    Other numbers of pixels and classes leave its layers as they are. Small: a quarter of the
    channels, two blocks of each width at most, 32 x 32, 10 classes.
    """
    if small:
        return _built(InvertedBottlenecks(4, _small(_MCUNET_5FPS), 10), 32)
    return _built(InvertedBottlenecks(16, _MCUNET_5FPS, classes), pixels)


def proxyless(*, small: bool = False) -> Built:
    """ProxylessNAS-mobile, width 0.3, 176 x 176, no mixing layer (Cai et al. 2019, MIT's mcunet).

    Without the mixing layer as in Tiny Training Engine (Lin et al. 2022). Small: as ``mcunet``.
    """
    read = first = divisible(32 * 0.3)
    blocks = []
    for expansion, out, kernel, stride in _PROXYLESS_MOBILE:
        channels = divisible(out * 0.3)
        blocks.append(Block(read * expansion, channels, kernel, stride))
        read = channels
    if small:
        return _built(InvertedBottlenecks(2, _small(blocks), 10), 32)
    return _built(InvertedBottlenecks(first, blocks, 1000), 176)


def efficientnet_lite0(*, small: bool = False) -> Built:
    """EfficientNet-lite0's shape, 224 x 224, 1000 classes (Tan & Le 2019; Google's lite variants).

    Padding is symmetric, as PyTorch has it. Small: as ``mcunet``, the mixing layer 32 wide.
    """
    read = 32
    blocks = []
    for expansion, out, kernel, stride, repeats in _EFFICIENTNET_LITE0:
        for i in range(repeats):
            blocks.append(Block(read * expansion, out, kernel, stride if i == 0 else 1))
            read = out
    if small:
        return _built(InvertedBottlenecks(8, _small(blocks), 10, mixed=32), 32)
    return _built(InvertedBottlenecks(32, blocks, 1000, mixed=1280), 224)

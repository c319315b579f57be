"""One small net per family of layers, compiled for this machine: five losses follow PyTorch's."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend.torch_export import import_module

BATCH, CLASSES, RATE = 3, 4, 0.05


class Head(nn.Module):
    """The mean over all positions, then a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(2).mean(2))


NETS = {
    "conv1d": (
        (2, 21),
        lambda: nn.Sequential(
            nn.Conv1d(2, 8, 5, padding=2),
            nn.BatchNorm1d(8),
            nn.Mish(),
            nn.MaxPool1d(3, 2, 1),
            nn.Conv1d(8, 8, 3, stride=2, groups=8),
            nn.PReLU(8),
            nn.AdaptiveAvgPool1d(3),
            nn.Conv1d(8, 12, 2, dilation=2),
            nn.GLU(1),
            Head(6),
        ),
    ),
    "conv3d": (
        (2, 6, 7, 5),
        lambda: nn.Sequential(
            nn.Conv3d(2, 6, 3, padding=1),
            nn.BatchNorm3d(6),
            nn.ELU(),
            nn.MaxPool3d(2, ceil_mode=True),
            nn.Conv3d(6, 8, (2, 3, 2), groups=2),
            nn.Softplus(),
            nn.AvgPool3d((1, 2, 1)),
            nn.ConvTranspose3d(8, 4, 2, stride=2),
            nn.AdaptiveMaxPool3d((2, 1, 2)),
            Head(4),
        ),
    ),
    "encoder and decoder": (
        (1, 9, 8),
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(8, affine=True),
            nn.Hardswish(),
            nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1, groups=8),
            nn.SELU(),
            nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
            Head(4),
        ),
    ),
    "group norm and resizing": (
        (2, 7, 6),
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3),
            nn.GroupNorm(4, 8),
            nn.SiLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(8, 8, 3),
            nn.LayerNorm((8, 8, 6)),
            nn.GELU("tanh"),
            nn.Upsample(size=(5, 7), mode="bicubic"),
            nn.PixelShuffle(2),
            nn.AdaptiveMaxPool2d((3, 4)),
            nn.RMSNorm(4),
            nn.Softmax2d(),
            Head(2),
        ),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_five_losses_follow_pytorch(name: str, tmp_path) -> None:
    shape, build = NETS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build().eval()
        pixels = torch.randn(BATCH, *shape)
    labels = torch.arange(BATCH) % CLASSES
    model = import_module(copy.deepcopy(module), (pixels,), BATCH, "net")
    pock_tvm.compile(model, tmp_path / "net")
    optimizer = torch.optim.SGD(module.parameters(), RATE)
    with Trainer(tmp_path / "net", threads=2) as trainer:
        for _ in range(5):
            loss = nn.functional.cross_entropy(module(pixels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ours = trainer.step(pixels.numpy(), labels.numpy(), RATE)
            assert ours == pytest.approx(loss.item(), abs=1e-5)
        for key, value in module.named_parameters():
            theirs = value.detach().numpy()
            np.testing.assert_allclose(trainer.tensor(key), theirs, atol=1e-4, err_msg=key)

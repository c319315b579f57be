"""A small convolutional net, named as ``small_net:build`` on the command line."""

from collections import OrderedDict

BATCH, CLASSES, INPUT = 4, 5, "pixels"


def build():
    import torch
    from torch import nn

    class SmallNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                OrderedDict(
                    stem=nn.Conv2d(1, 8, 3, padding=1, bias=False),
                    norm=nn.BatchNorm2d(8),
                    relu=nn.ReLU(),
                    depthwise=nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
                    relu6=nn.ReLU6(),
                    pointwise=nn.Conv2d(8, 16, 1),
                )
            )
            self.classifier = nn.Linear(16, CLASSES)

        def forward(self, pixels):
            return self.classifier(self.features(pixels).mean((2, 3)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallNet(), (torch.zeros(1, 1, 8, 8),)

"""A convolutional net and pictures with which a search takes seconds."""

import numpy as np
import torch
from torch import nn

from pock_tvm.frontend.torch_export import import_module

BATCH = 4
CLASSES = 3


class SmallNet(nn.Module):
    """Stem, expand, depthwise, project, classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 2, 1)
        self.expand = nn.Conv2d(8, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.project = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        x = torch.tanh(self.depthwise(torch.tanh(self.expand(x))))
        return self.head(self.project(x).mean((2, 3)))


def small_module(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SmallNet().eval()


def small_model():
    return import_module(small_module(), (torch.zeros(1, 1, 8, 8),), batch=BATCH, name="small")


def bars():
    """As ``bars_net:bars``, what a reference to a model names."""
    return small_module(), (torch.zeros(1, 1, 8, 8),)


def pictures(count, seed=0):
    """Bars that lie, stand or cross, in noise; and which of them."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    images = generator.normal(0, 0.4, (count, 1, 8, 8)).astype("float32")
    for image, label in zip(images, labels, strict=True):
        row, column = generator.integers(1, 7, 2)
        if label != 1:
            image[0, row] += 1
        if label != 0:
            image[0, :, column] += 1
    return images, labels


PICTURES, LABELS = pictures(32)

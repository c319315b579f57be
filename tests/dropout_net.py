"""A tiny net with every kind of dropout that a PyTorch model has."""

import torch
import torch.nn.functional as F
from torch import nn

BATCH, FEATURES, CLASSES = 4, 12, 3


class DropoutNet(nn.Module):
    """Feature dropout on pictures, in-place dropout, dropout of attention probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.channels = nn.Dropout2d(0.25)
        self.hidden = nn.Linear(8, FEATURES)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.channels(self.stem(pixels)))
        tokens = torch.tanh(self.hidden(y.flatten(2).transpose(1, 2)))
        scores = tokens @ tokens.transpose(1, 2) / FEATURES**0.5
        mixed = F.dropout(scores.softmax(-1), 0.1, self.training) @ tokens
        self.drop(mixed)  # in place: the reader below sees it
        return self.head(mixed.mean(1))


def build() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return DropoutNet(), (torch.zeros(1, 1, 4, 4),)

"""A tiny net with every kind of dropout that a PyTorch model has."""

import torch
import torch.nn.functional as F
from torch import nn

BATCH, FEATURES, CLASSES = 4, 12, 3


class DropoutNet(nn.Module):
    """Feature dropout on pictures, dropout inside fused attention, alpha and in-place dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.channels = nn.Dropout2d(0.25)
        self.hidden = nn.Linear(8, FEATURES)
        self.attention_dropout = 0.2
        self.drop = nn.Dropout(0.5, inplace=True)
        self.alpha = nn.AlphaDropout(0.3)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.channels(self.stem(pixels)))
        tokens = torch.tanh(self.hidden(y.flatten(2).transpose(1, 2)))
        tokens = F.dropout(tokens, 0.1, self.training)
        p = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=p)
        self.drop(mixed)  # in place: the reader below sees it
        return self.head(self.alpha(mixed.mean(1)))


def build() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return DropoutNet(), (torch.zeros(1, 1, 4, 4),)

"""Two convolutions that Winograd's tiles may compute, behind one that learns."""

import torch

BATCH, CLASSES = 2, 5


class Net(torch.nn.Module):
    """What learns lies before two frozen convolutions, on pictures that no tile divides."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 32, 3, padding=1)
        self.first = torch.nn.Conv2d(32, 48, 3, padding=1)
        self.second = torch.nn.Conv2d(48, 64, 3)
        self.head = torch.nn.Linear(64, CLASSES)

    def forward(self, x):
        x = torch.nn.functional.silu(self.first(torch.nn.functional.silu(self.stem(x))))
        return self.head(torch.nn.functional.silu(self.second(x)).mean((2, 3)))


def build():
    torch.manual_seed(0)
    return Net(), (torch.randn(BATCH, 3, 11, 13),)

"""Inverted residual blocks as MobileNetV2 has them, named ``sparse_net:build``."""

BATCH, CLASSES = 2, 4


def build():
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels=16, wide=32, activation=nn.SiLU):
            super().__init__()
            self.expand = nn.Conv2d(channels, wide, 1, bias=False)
            self.norm = nn.BatchNorm2d(wide)
            self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
            self.reduce = nn.Conv2d(wide, channels, 1)
            self.activation = activation()

        def forward(self, x):
            y = self.activation(self.norm(self.expand(x)))
            return x + self.reduce(self.activation(self.depthwise(y)))

    class SparseNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
            self.layer = nn.ModuleList([Block(), Block(), Block()])
            self.last = nn.Conv2d(16, 24, 3, stride=2, padding=1)
            self.classifier = nn.Linear(24, CLASSES)

        def forward(self, pictures):
            x = self.stem(pictures)
            for block in self.layer:
                x = block(x)
            return self.classifier(self.last(x).mean((2, 3)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SparseNet(), (torch.zeros(1, 3, 16, 16),)

"""A transformer of one layer, named as ``small_transformer:build`` on the command line."""

BATCH, CLASSES, INPUT, TOKENS, VOCABULARY = 2, 3, "input_ids", 12, 50


def build():
    import torch
    from torch import nn

    class Block(nn.Module):
        """Attention over four heads, then two linear layers, each added to its normalized input."""

        def __init__(self, width=32, heads=4):
            super().__init__()
            self.heads = heads
            self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def split(self, x):
            return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

        def forward(self, x):
            q, k, v = (self.split(f(x)) for f in (self.query, self.key, self.value))
            scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
            x = self.norm1(x + self.out(mixed))
            return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))

    class SmallTransformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(VOCABULARY, 32)
            self.places = nn.Parameter(0.1 * torch.randn(1, TOKENS, 32))
            self.block = Block()
            self.classifier = nn.Linear(32, CLASSES)

        def forward(self, input_ids):
            return self.classifier(self.block(self.words(input_ids) + self.places).mean(1))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallTransformer(), (torch.zeros(1, TOKENS, dtype=torch.int64),)

"""A net whose table of words is its output layer too, named as ``tied_net:build``."""

BATCH, TOKENS, VOCABULARY = 2, 5, 40


def build():
    import torch
    from torch import nn

    class TiedNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(VOCABULARY, 16)
            self.norm = nn.LayerNorm(16)
            self.head = nn.Linear(16, VOCABULARY, bias=False)
            self.head.weight = self.words.weight
            self.spare = nn.Linear(3, 2)

        def forward(self, input_ids):
            return self.head(self.norm(self.words(input_ids).mean(1)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TiedNet(), (torch.zeros(1, TOKENS, dtype=torch.int64),)

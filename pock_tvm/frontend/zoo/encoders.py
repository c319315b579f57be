"""Text classifiers of ``transformers``: BERT and DistilBERT."""

from typing import Any

import torch

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]

_SMALL_WIDTH = 32


def bert_base(*, small: bool = False) -> Built:
    """BERT-base as a classifier of two classes, 128 tokens (Devlin et al. 2019).

    Small: width 32, 6 layers, 4 heads, 64 words, 8 tokens.
    """
    from transformers import BertConfig, BertForSequenceClassification

    shape: dict[str, Any] = {"initializer_range": 768**-0.5}
    if small:
        shape = {
            "hidden_size": _SMALL_WIDTH,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "intermediate_size": 2 * _SMALL_WIDTH,
            "vocab_size": 64,
            "max_position_embeddings": 16,
            "initializer_range": _SMALL_WIDTH**-0.5,
        }
    # Fused attention would be written out on import, after a second export for its dropout.
    config = BertConfig(num_labels=2, attn_implementation="eager", **shape)
    return BertForSequenceClassification(config), (_tokens(small=small),)


def distilbert(*, small: bool = False) -> Built:
    """DistilBERT-base as a classifier of two classes, 128 tokens (Sanh et al. 2019).

    Small: width 32, 4 layers, 4 heads, 64 words, 8 tokens.
    """
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    shape: dict[str, Any] = {}
    if small:
        shape = {
            "dim": _SMALL_WIDTH,
            "n_layers": 4,
            "n_heads": 4,
            "hidden_dim": 2 * _SMALL_WIDTH,
            "vocab_size": 64,
            "max_position_embeddings": 16,
            "initializer_range": _SMALL_WIDTH**-0.5,
        }
    config = DistilBertConfig(num_labels=2, attn_implementation="eager", **shape)
    return DistilBertForSequenceClassification(config), (_tokens(small=small),)


def _tokens(*, small: bool) -> torch.Tensor:
    return torch.zeros(1, 8 if small else 128, dtype=torch.int64)

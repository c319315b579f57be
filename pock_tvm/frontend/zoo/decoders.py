"""Language models of ``transformers``: Llama and GPT-2.

They take tokens [batch, length] and return logits [batch, length, vocabulary] for the loss
``cross_entropy``. The data shift: label i of a row is the token *after* token i, and -100, the
ignore index, where there is none or where it shall not count, such as in a prompt.
"""

from typing import Any

import torch

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


class CausalLM(torch.nn.Module):
    """A causal language model of ``transformers`` for sequences of one length.

    The library computes mask and positions from their absence in a way that does not import; here
    both are buffers. Parameters keep the library's names behind ``model.``.
    """

    def __init__(self, model: torch.nn.Module, length: int) -> None:
        """Wrap a model whose attention is "eager"."""
        super().__init__()
        self.model = model
        allowed = torch.ones(length, length, dtype=torch.bool).tril()
        mask = torch.zeros(length, length).masked_fill(~allowed, torch.finfo(torch.float32).min)
        self.register_buffer("mask", mask[None, None], persistent=False)
        self.register_buffer("positions", torch.arange(length)[None], persistent=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of the token after each token."""
        out = self.model(
            input_ids=input_ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            use_cache=False,
        )
        return out.logits


def llama_small(*, small: bool = False) -> Built:
    """Llama: width 512, 8 layers, 8 heads over 4 of keys, FFN 1376, 8192 words, 128 tokens.

    RMSNorm, rotary positions, SwiGLU, grouped queries, untied head (Touvron et al. 2023).

    Small: width 32, 6 layers, 4 heads over 2, FFN 48, 64 words, 8 tokens, tied head.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 1376,
        "vocab_size": 8192,
        "max_position_embeddings": 128,
    }
    if small:
        shape = {
            "hidden_size": 32,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 48,
            "vocab_size": 64,
            "max_position_embeddings": 8,
            "tie_word_embeddings": True,
        }
    config = LlamaConfig(
        initializer_range=shape["hidden_size"] ** -0.5, attn_implementation="eager", **shape
    )
    return _causal(LlamaForCausalLM(config), shape["max_position_embeddings"])


def gpt2(*, small: bool = False) -> Built:
    """GPT-2 of 124 million parameters, 128 tokens, tied head (Radford et al. 2019).

    Small: width 32, 4 layers, 4 heads, 64 words, 8 tokens.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    shape: dict[str, Any] = {"n_embd": 768}
    if small:
        shape = {"n_embd": 32, "n_layer": 4, "n_head": 4, "vocab_size": 64, "n_positions": 8}
    config = GPT2Config(
        initializer_range=shape["n_embd"] ** -0.5, attn_implementation="eager", **shape
    )
    return _causal(GPT2LMHeadModel(config), 8 if small else 128)


def _causal(model: torch.nn.Module, length: int) -> Built:
    return CausalLM(model, length), (torch.zeros(1, length, dtype=torch.int64),)

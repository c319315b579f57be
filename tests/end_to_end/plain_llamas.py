"""Llamas as a user of ``transformers`` has them, small: nothing is wrapped or set up for us."""

from typing import Any

import torch

LENGTH, WORDS = 8, 32
SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "vocab_size": WORDS,
    "max_position_embeddings": 2 * LENGTH,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": None,
}
ORIGINAL = {"original_max_position_embeddings": 4}


def _rope(kind: str, **options: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0, **options}}


def _build(**config: Any) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **config}))
        for name, value in model.named_parameters():
            if value.ndim == 1:  # scales and biases that are not all alike
                value.data += 0.1 * torch.randn_like(value)
            assert value.std() > 0, name
    return model, (torch.zeros(1, LENGTH, dtype=torch.int64),)


def plain():
    return _build()


def tied_biased_llama3():
    scaling = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **ORIGINAL}
    return _build(tie_word_embeddings=True, attention_bias=True, **_rope("llama3", **scaling))


def eager_one_key_head_yarn():
    return _build(
        num_key_value_heads=1,
        head_dim=8,
        mlp_bias=True,
        attn_implementation="eager",
        **_rope("yarn", factor=4.0, **ORIGINAL),
    )


def ungrouped_linear():
    return _build(num_key_value_heads=4, hidden_act="gelu", **_rope("linear", factor=2.0))


def dynamic():
    return _build(max_position_embeddings=LENGTH, **_rope("dynamic", factor=2.0))


def long_rope():
    factors = {"short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]}
    return _build(**_rope("longrope", factor=4.0, **factors, **ORIGINAL))

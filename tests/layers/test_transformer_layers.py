"""Models of ``transformers`` with fused attention, in float64: values and gradients.

Padding masks, causal masks and shared heads come as the library builds them. "eager" beside "sdpa"
shows that both say the same; Llama's "eager" takes its softmax in float32, whatever the model.
"""

import pytest
import torch
import transformers
from layer_tables import CompiledLayers, Layer
from torch import nn

TOKENS = torch.tensor([[5, 3, 8, 1, 0], [2, 7, 0, 0, 0]])
PADDED = (TOKENS > 0).long()
ONE_LAYER = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "vocab_size": 9}
WIDTHS = {"intermediate_size": 12, "max_position_embeddings": 6}
GPT2 = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 6, "vocab_size": 9}


class Reads(nn.Module):
    """A model at constant tokens."""

    def __init__(self, model: nn.Module, mask: torch.Tensor | None) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("tokens", TOKENS, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self) -> torch.Tensor:
        options = {} if self.mask is None else {"attention_mask": self.mask}
        return self.model(self.tokens, **options)[0]


def reads(kind: str, attention: str, mask: torch.Tensor | None, **shape: int) -> Layer:
    config = getattr(transformers, f"{kind}Config")(
        attn_implementation=attention, use_cache=False, **shape
    )
    config.pad_token_id = None  # or its row of the table would not learn
    unused = {"add_pooling_layer": False} if kind == "Bert" else {}
    model = getattr(transformers, f"{kind}Model")(config, **unused)
    name = f"{kind}-{attention}-{'plain' if mask is None else 'padded'}".lower()
    return Layer(name, Reads(in_float64(model), mask))


def in_float64(model: nn.Module) -> nn.Module:
    """Give a model norms that compute in its own type; Llama's are float32 in any model."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm).__name__ == "LlamaRMSNorm":
                setattr(parent, name, nn.RMSNorm(norm.weight.shape, norm.variance_epsilon))
    return model


LAYERS = [
    reads(kind, attention, mask, **shape)
    for kind, shape in {
        "Bert": ONE_LAYER | WIDTHS,
        "GPT2": GPT2,
        "Llama": ONE_LAYER | WIDTHS | {"num_key_value_heads": 1},
    }.items()
    for attention, mask in [("sdpa", None), ("sdpa", PADDED), ("eager", PADDED)]
    if (kind, attention) != ("Llama", "eager")
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

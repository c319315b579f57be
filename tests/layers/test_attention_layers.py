"""Attention with masks, biases and shared heads: values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from function_layers import At
from layer_tables import CompiledLayers, Layer
from torch import nn


def attention(name, *shapes, masks=(), **options):
    def attend(q, k, v, mask=None):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)

    return Layer(f"attention-{name}", At(attend, *masks), shapes)


Q, KV = (2, 4, 5, 6), (2, 4, 7, 6)
LOWER = torch.ones(5, 7, dtype=torch.bool).tril(1)
NEVER = LOWER & (torch.arange(5) != 2)[:, None]
PAD = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])[:, None, None]
BIAS = torch.linspace(-1, 1, 35, dtype=torch.float64).reshape(5, 7)


class SelfAttention(nn.Module):
    def __init__(self, mask=None, padding=None, weights=False, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)
        self.mask, self.padding, self.weights = mask, padding, weights

    def forward(self, x, y=None):
        y = x if y is None else y
        out, weights = self.attention(
            x, y, y, attn_mask=self.mask, key_padding_mask=self.padding, need_weights=self.weights
        )
        return (out, weights) if self.weights else out


SQUARE = ~torch.ones(5, 5, dtype=torch.bool).tril()

LAYERS = [
    attention("plain", Q, KV, KV),
    attention("causal", Q, Q, Q, is_causal=True),
    attention("causal-longer-keys", Q, KV, KV, is_causal=True),
    attention("scale", Q, KV, KV, scale=0.3),
    attention("mask", Q, KV, KV, masks=(LOWER,)),
    attention("mask-padding", Q, KV, KV, masks=(PAD,)),
    attention("mask-of-a-whole-row", Q, KV, KV, masks=(NEVER,)),
    attention("bias", Q, KV, KV, masks=(BIAS,)),
    attention("learned-bias", Q, KV, KV, (4, 5, 7)),
    attention("grouped", Q, (2, 2, 7, 6), (2, 2, 7, 6), enable_gqa=True),
    attention("grouped-causal", Q, (2, 1, 5, 6), (2, 1, 5, 6), enable_gqa=True, is_causal=True),
    attention("rank-3", Q[1:], KV[1:], KV[1:]),
    attention("values-wider", Q, KV, (2, 4, 7, 3)),
    attention("broadcast-keys", Q, (1, 4, 7, 6), (1, 4, 7, 6)),
    Layer("multihead", SelfAttention(batch_first=True), ((2, 5, 8),)),
    Layer("multihead-weights", SelfAttention(batch_first=True, weights=True), ((2, 5, 8),)),
    Layer("multihead-bias-kv", SelfAttention(batch_first=True, add_bias_kv=True), ((2, 5, 8),)),
    Layer("multihead-causal", SelfAttention(mask=SQUARE, batch_first=True), ((2, 5, 8),)),
    Layer("multihead-cross", SelfAttention(batch_first=True), ((2, 5, 8), (2, 3, 8))),
    Layer(
        "multihead-kdim", SelfAttention(batch_first=True, kdim=6, vdim=6), ((2, 5, 8), (2, 3, 6))
    ),
    Layer(
        "multihead-padding",
        SelfAttention(padding=~PAD[:, 0, 0, 2:], batch_first=True),
        ((2, 5, 8),),
    ),
    Layer("encoder-layer", nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), ((2, 5, 8),)),
    Layer(
        "encoder-layer-norm-first",
        nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True, activation="gelu"),
        ((2, 5, 8),),
    ),
    Layer(
        "decoder-layer",
        nn.TransformerDecoderLayer(8, 2, 12, batch_first=True),
        ((2, 5, 8), (2, 3, 8)),
    ),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

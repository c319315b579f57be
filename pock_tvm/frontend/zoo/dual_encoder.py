"""Pictures and texts in one space: CLIP."""

from typing import Any

import torch

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


class DualEncoder(torch.nn.Module):
    """Similarities of every picture with every text of a batch, for the loss ``contrastive``.

    The two encoders are those of ``transformers``' CLIP; a text is represented by its last token,
    so that it is padded in front.
    """

    def __init__(self, model: torch.nn.Module, length: int) -> None:
        """Wrap a ``CLIPModel`` whose attention is "eager"."""
        super().__init__()
        self.model = model
        allowed = torch.ones(length, length, dtype=torch.bool).tril()
        mask = torch.zeros(length, length).masked_fill(~allowed, torch.finfo(torch.float32).min)
        self.register_buffer("mask", mask[None, None], persistent=False)

    def forward(self, pixel_values: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        """Return [pictures, texts]: scaled cosines."""
        clip = self.model
        vision = clip.vision_model
        seen = vision.encoder(inputs_embeds=vision.pre_layrnorm(vision.embeddings(pixel_values)))
        pictures = clip.visual_projection(vision.post_layernorm(seen.last_hidden_state[:, 0]))
        text = clip.text_model
        read = text.encoder(
            inputs_embeds=text.embeddings(input_ids), attention_mask=self.mask, is_causal=True
        )
        texts = clip.text_projection(text.final_layer_norm(read.last_hidden_state)[:, -1])
        return clip.logit_scale.exp() * _unit(pictures) @ _unit(texts).T


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True))


def clip(*, small: bool = False) -> Built:
    """CLIP ViT-B/32, 224 x 224 and 77 tokens, similarities of all pairs (Radford et al. 2021).

    Small: both encoders of width 32, 2 layers, 4 heads; 16 x 16 in patches of 8; 8 tokens of 64.
    """
    from transformers import CLIPConfig, CLIPModel

    length = 8 if small else 77
    text: dict[str, Any] = {}
    vision: dict[str, Any] = {}
    both: dict[str, Any] = {}
    if small:
        encoder: dict[str, Any] = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "projection_dim": 16,
        }
        text = {**encoder, "vocab_size": 64, "max_position_embeddings": length}
        vision = {**encoder, "image_size": 16, "patch_size": 8}
        both = {"projection_dim": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, attn_implementation="eager", **both)
    model = DualEncoder(CLIPModel(config), length)
    pixels = config.vision_config.image_size
    examples = torch.zeros(1, 3, pixels, pixels), torch.zeros(1, length, dtype=torch.int64)
    return model, examples

"""Picture classifiers of ``transformers``: MobileNetV2, ResNet-50, vision transformers."""

from typing import Any

import torch

from pock_tvm.frontend.zoo.weights import draw_convolutions, measure_statistics

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


def _mobilenet(width: float, pixels: int, classes: int) -> Built:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(num_labels=classes, depth_multiplier=width, image_size=pixels)
    model = MobileNetV2ForImageClassification(config)
    # The library's weights are so small that activations fall to 1e-21 on the way up.
    draw_convolutions(model, ("reduce_1x1",))
    example = torch.zeros(1, 3, pixels, pixels)
    measure_statistics(model, example)
    return model, (example,)


def mobilenet_v2(*, small: bool = False) -> Built:
    """MobileNetV2 1.0 at 224 x 224, 1000 classes (Sandler et al. 2018).

    Small: width 0.1, 32 x 32, 10 classes.
    """
    return _mobilenet(0.1, 32, 10) if small else _mobilenet(1.0, 224, 1000)


def mobilenet_v2_035(*, small: bool = False) -> Built:
    """MobileNetV2 0.35 at 224 x 224, 1000 classes (Sandler et al. 2018).

    Small: width 0.05, 48 x 48, 10 classes.
    """
    return _mobilenet(0.05, 48, 10) if small else _mobilenet(0.35, 224, 1000)


def resnet50(*, small: bool = False) -> Built:
    """ResNet-50 at 224 x 224, 1000 classes (He et al. 2016; stride in the 3x3 convolutions).

    Small: one or two bottlenecks a stage, 4 to 32 channels inside, 32 x 32, 10 classes.
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    shape: dict[str, Any] = {"num_labels": 1000}
    pixels = 224
    if small:
        shape = {
            "num_labels": 10,
            "embedding_size": 8,
            "hidden_sizes": [16, 32, 64, 128],
            "depths": [2, 1, 2, 1],
        }
        pixels = 32
    model = ResNetForImageClassification(ResNetConfig(**shape))
    draw_convolutions(model, ("shortcut", "layer.2"))
    example = torch.zeros(1, 3, pixels, pixels)
    measure_statistics(model, example)
    return model, (example,)


def _vit(width: int, depth: int, heads: int, patch: int, pixels: int, classes: int) -> Built:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=pixels,
        patch_size=patch,
        num_labels=classes,
        initializer_range=width**-0.5,
        # Fused attention would be written out on import, after a second export for its dropout.
        attn_implementation="eager",
    )
    return ViTForImageClassification(config), (torch.zeros(1, 3, pixels, pixels),)


def vit_tiny(*, small: bool = False) -> Built:
    """ViT-tiny/16 at 224 x 224, 1000 classes (Dosovitskiy et al. 2021, sizes of DeiT).

    Small: width 24, 6 layers, 3 heads, patches of 8, 16 x 16, 10 classes.
    """
    return _vit(24, 6, 3, 8, 16, 10) if small else _vit(192, 12, 3, 16, 224, 1000)


def vit_base(*, small: bool = False) -> Built:
    """ViT-base/16 at 224 x 224, 1000 classes (Dosovitskiy et al. 2021).

    Small: width 32, 6 layers, 4 heads, patches of 8, 24 x 24, 10 classes.
    """
    return _vit(32, 6, 4, 8, 24, 10) if small else _vit(768, 12, 12, 16, 224, 1000)

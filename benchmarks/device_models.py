"""Models of the size that small devices train, weights drawn from a seed: see ``devices.py``."""

import torch

from pock_tvm.frontend.zoo import build_zoo_model
from pock_tvm.frontend.zoo.weights import draw_convolutions, measure_statistics
from pock_tvm.update import Rule, UpdateScheme

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]

RESNET18_SPARSE = UpdateScheme(
    name="preset",
    rules=(
        Rule(what=("bias",), blocks="last 4"),
        Rule(what=("weight",), match=("*.layer.0.*",), blocks="last 4"),
        Rule(what=("head",)),
    ),
)
"""PockEngine has no recipe for basic blocks: that of its ResNet-50, for half of the eight."""


def mobilenet_v2_96(activation: str = "relu6") -> Built:
    """Return MobileNetV2 0.35 at 96 x 96 pixels, 10 classes."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MobileNetV2Config(
            num_labels=10, depth_multiplier=0.35, image_size=96, hidden_act=activation
        )
        model = MobileNetV2ForImageClassification(config)
        draw_convolutions(model, ("reduce_1x1",))
        example = torch.zeros(1, 3, 96, 96)
        measure_statistics(model, example)
    return model, (example,)


def mobilenet_v2_96_smooth() -> Built:
    """Return the same with silu for relu6."""
    return mobilenet_v2_96("silu")


def resnet18_64() -> Built:
    """Return ResNet-18 at 64 x 64 pixels, 10 classes."""
    from transformers import ResNetConfig, ResNetForImageClassification

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ResNetConfig(
            num_labels=10,
            layer_type="basic",
            depths=[2, 2, 2, 2],
            hidden_sizes=[64, 128, 256, 512],
        )
        model = ResNetForImageClassification(config)
        draw_convolutions(model, ("shortcut", "layer.1"))
        example = torch.zeros(1, 3, 64, 64)
        measure_statistics(model, example)
    return model, (example,)


def mcunet() -> Built:
    """Return MCUNet (5fps) at its 96 x 96 pixels."""
    return build_zoo_model("mcunet")


def distilbert_tiny() -> Built:
    """Return DistilBERT of width 32, 4 layers, 8 tokens."""
    return build_zoo_model("distilbert@small")


def llama_tiny() -> Built:
    """Return Llama of width 32, 6 layers, 8 tokens."""
    return build_zoo_model("llama_small@small")


MODELS = {
    builder.__name__: builder
    for builder in (mobilenet_v2_96, mcunet, resnet18_64, distilbert_tiny, llama_tiny)
}
SMOOTH_MODELS = {mobilenet_v2_96_smooth.__name__: mobilenet_v2_96_smooth}
"""Without bends: what rounds differently stays as close as it was. In a net of relu6 a value that
lies within rounding of a bend gets a gradient on one machine and none on the other."""

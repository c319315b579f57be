"""Random weights under which activations keep their scale, and statistics that fit them."""

import torch
from torch import nn


def draw_convolutions(module: nn.Module, linear: tuple[str, ...] = ()) -> None:
    """Draw convolutions so that the variance of what they return is that of what they read.

    Args:
        module: changed in place.
        linear: words in the names of convolutions that no activation follows.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            after = "linear" if any(word in name for word in linear) else "relu"
            nn.init.kaiming_normal_(layer.weight, nonlinearity=after)


def measure_statistics(module: nn.Module, example: torch.Tensor, samples: int = 4) -> None:
    """Set the running statistics of batch normalizations to those of one batch of noise.

    Under the mean 0 and variance 1 that they start from, activations shrink or grow from layer to
    layer, and gradients with them.
    """
    layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0  # the statistics of the last batch alone
    training = module.training
    with torch.no_grad():
        module.train()(torch.randn(samples, *example.shape[1:]))
    module.train(training)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum

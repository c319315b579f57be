"""Convolutions over strides, paddings, dilations and groups: values and gradients."""

import pytest
from layer_tables import CompiledLayers, Layer
from torch import nn

LAYERS = [
    Layer("conv2d", nn.Conv2d(3, 4, 3), ((2, 3, 6, 5),)),
    Layer("conv2d-stride", nn.Conv2d(3, 4, (3, 2), stride=(2, 3), padding=1), ((2, 3, 7, 8),)),
    Layer("conv2d-groups", nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), ((1, 4, 7, 6),)),
    Layer("conv2d-depthwise", nn.Conv2d(4, 4, 3, groups=4, bias=False), ((1, 4, 7, 6),)),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

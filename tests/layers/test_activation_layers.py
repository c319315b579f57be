"""Activations, soft maxima and clips: values and gradients, far out and at their bends."""

import pytest
import torch
import torch.nn.functional as F
from layer_tables import CompiledLayers, Layer
from torch import nn

X = (2, 4, 3, 5)
FAR = [-1000.0, -90.0, -21.0, -1e-3, 1e-3, 21.0, 90.0, 1000.0]
"""Where a careless formula overflows: exp(90) does in float32, exp(1000) in float64 too."""

MODULES = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardtanh": nn.Hardtanh(-0.5, 1.5),
    "leaky_relu": nn.LeakyReLU(0.2),
    "prelu": nn.PReLU(),
    "elu": nn.ELU(0.7),
    "selu": nn.SELU(),
    "celu": nn.CELU(0.6),
    "softplus": nn.Softplus(),
    "softplus-beta": nn.Softplus(2.0, 3.0),
    "softsign": nn.Softsign(),
    "mish": nn.Mish(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "log_sigmoid": nn.LogSigmoid(),
    "rrelu": nn.RReLU(),
    "hardshrink": nn.Hardshrink(),
    "softshrink": nn.Softshrink(),
    "tanhshrink": nn.Tanhshrink(),
    "threshold": nn.Threshold(0.1, 0.4),
    "softmax2d": nn.Softmax2d(),
    "clamp": lambda x: x.clamp(-0.7, 1.1),
    "clamp_min": lambda x: x.clamp(min=-0.3),
    "clamp_max": lambda x: torch.clamp(x, max=0.4),
    "clip": lambda x: torch.clip(x, -0.2),
}

FLOAT32 = {"hardsigmoid": 1e-7, "celu": 5e-7}
"""PyTorch's gradients multiply by 1/6 and by 1/α as float32 numbers, whatever the tensor's type.

The one is off by 2⁻²⁴; the other stands in exp(x / α) too, so by 2⁻²⁴ · (1 + 4 / 0.6).
"""

LAYERS = [
    *(
        Layer(name, call, (X,), low=-4, high=4, rtol=FLOAT32.get(name, 1e-10))
        for name, call in MODULES.items()
    ),
    *(
        Layer(f"{name}-far", MODULES[name], values=(FAR,), rtol=FLOAT32.get(name, 1e-10))
        for name in MODULES
        if name not in ("prelu", "softmax2d", "gelu_tanh")
    ),
    *(Layer(f"{name}-vector", MODULES[name], ((7,),)) for name in ("relu6", "elu", "mish")),
    *(Layer(f"{name}-scalar", MODULES[name], ((),)) for name in ("gelu", "selu", "softplus")),
    Layer("gelu_tanh-far", MODULES["gelu_tanh"], values=([-50.0, -6.0, 0.0, 6.0, 50.0],)),
    Layer("prelu-channels", nn.PReLU(4), (X,)),
    Layer("prelu-rows", nn.PReLU(4), ((3, 4),)),
    Layer("prelu-behind-conv", nn.Sequential(nn.Conv2d(4, 3, 2), nn.PReLU(3)), (X,)),
    *(Layer(f"glu-{axis}", nn.GLU(axis), ((2, 4, 6),)) for axis in (0, 1, -1)),
    *(Layer(f"softmax-{axis}", nn.Softmax(axis), (X,)) for axis in range(-1, 4)),
    *(Layer(f"log_softmax-{axis}", nn.LogSoftmax(axis), (X,)) for axis in range(-1, 4)),
    *(Layer(f"softmin-{axis}", nn.Softmin(axis), ((3, 5),)) for axis in (0, 1)),
    Layer("softmax-large", nn.Softmax(-1), values=([[1000.0, 999.0, -1000.0]],)),
    Layer("log_softmax-large", nn.LogSoftmax(-1), values=([[1000.0, 999.0, -1000.0]],)),
    Layer("softmax-behind-conv", nn.Sequential(nn.Conv2d(4, 3, 2), nn.Softmax(1)), (X,)),
    Layer("glu-behind-conv", nn.Sequential(nn.Conv1d(4, 6, 2), nn.GLU(1)), ((2, 4, 7),)),
    Layer("relu-at-0", nn.ReLU(), values=([0.0, -0.0],)),
    Layer("relu6-at-bends", nn.ReLU6(), values=([0.0, 6.0],)),
    Layer("elu-at-0", nn.ELU(0.7), values=([0.0, -0.0],)),
    Layer("leaky_relu-at-0", nn.LeakyReLU(0.2), values=([0.0],)),
    Layer("log_sigmoid-at-0", nn.LogSigmoid(), values=([0.0],)),
    Layer("gated", lambda x, g: x * F.sigmoid(g), (X, (2, 4, 1, 1))),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

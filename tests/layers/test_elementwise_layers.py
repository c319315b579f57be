"""Elementwise functions of one, two and three tensors: values and gradients."""

import pytest
import torch
from function_layers import function_layer
from layer_tables import CompiledLayers, Layer

M = (5, 7)

FUNCTIONS = {
    "abs": {}, "neg": {}, "square": {}, "erf": {}, "exp": {}, "expm1": {}, "exp2": {},
    "log": {"low": 0.1}, "log2": {"low": 0.1}, "log10": {"low": 0.1}, "log1p": {"low": -0.9},
    "sqrt": {"low": 0.1}, "rsqrt": {"low": 0.1}, "reciprocal": {"low": 0.2},
    "sin": {}, "cos": {}, "tan": {"low": -1, "high": 1}, "asin": {"low": -0.9, "high": 0.9},
    "acos": {"low": -0.9, "high": 0.9}, "atan": {}, "sinh": {}, "cosh": {}, "tanh": {},
    "asinh": {}, "acosh": {"low": 1.2}, "atanh": {"low": -0.9, "high": 0.9},
    "sigmoid": {}, "logit": {"low": 0.1, "high": 0.9},
    "frac": {}, "relu": {}, "sinc": {"low": 0.2}, "nan_to_num": {},
    "deg2rad": {}, "positive": {},
}  # fmt: skip

LAYERS = [
    *(function_layer(name, getattr(torch, name), M, **span) for name, span in FUNCTIONS.items()),
    *(
        function_layer(f"times-{step.__name__}", lambda x, f=step: x * f(x), M)
        for step in (torch.sign, torch.floor, torch.ceil, torch.round, torch.trunc)
    ),
    *(
        function_layer(f"pow-{n}", lambda x, n=n: x**n, M, low=0.2)
        for n in (0, 1, 2, 3, -1, -2, 0.5, -0.5, 2.7)
    ),
    *(
        function_layer(f"pow-{n}-of-negative", lambda x, n=n: x**n, M, high=-0.2)
        for n in (2, 3, -1)
    ),
    function_layer("pow-of-a-number", lambda x: 1.7**x, M),
    function_layer("pow-tensors", torch.pow, M, (7,), low=0.2),
    function_layer("pow-tensor-row", torch.pow, (5, 1), M, low=0.2),
    function_layer("add-alpha", lambda x, y: torch.add(x, y, alpha=2), M, (7,)),
    function_layer("sub-alpha", lambda x, y: torch.sub(x, y, alpha=0.5), (5, 1), M),
    function_layer("rsub", lambda x: 3 - x, M),
    function_layer("mul", torch.mul, (5, 1), (7,)),
    function_layer("div", torch.div, M, (5, 1), low=0.3),
    function_layer("div-of-a-number", lambda x: 2 / x, M, low=0.3),
    function_layer(
        "div-floor", lambda x, y: x * y + torch.div(x, y, rounding_mode="floor"), M, M, low=0.3
    ),
    function_layer(
        "div-trunc", lambda x, y: x * y * torch.div(x, y, rounding_mode="trunc"), M, M, low=0.3
    ),
    function_layer("minimum", torch.minimum, M, (5, 1)),
    function_layer("maximum", torch.maximum, M, (7,)),
    function_layer("max-of-two", torch.max, M, M),
    function_layer("min-of-two", torch.min, M, M),
    function_layer("atan2", torch.atan2, M, (7,)),
    function_layer("fmod", torch.fmod, M, (7,), low=0.3),
    function_layer("fmod-negative", lambda x: torch.fmod(x, 0.7), M),
    function_layer("remainder", lambda x: torch.remainder(x, 0.7), M),
    function_layer("remainder-tensors", torch.remainder, M, (7,), low=0.3),
    function_layer("logaddexp", torch.logaddexp, M, (5, 1)),
    function_layer("lerp", lambda x, y: torch.lerp(x, y, 0.3), M, M),
    function_layer("lerp-tensors", torch.lerp, M, M, (7,)),
    function_layer("clamp", lambda x: x.clamp(-0.5, 1), M),
    function_layer("clamp-min", lambda x: x.clamp(min=0.25), M),
    function_layer("clamp-max", lambda x: x.clamp(max=0.25), M),
    function_layer("clamp-tensors", lambda x, lo, hi: x.clamp(lo, lo + hi), M, (7,), (7,), low=0.1),
    function_layer("xlogy", torch.xlogy, M, M, low=0.2),
    function_layer("heaviside-of-comparison", lambda x: x * (x > 0.5).to(x.dtype), M),
    function_layer("where-function", lambda x: torch.where(x > 0, x, 0.1 * x), M),
    function_layer("float-and-back", lambda x: x.float().double() * 0 + x, M),
    function_layer("ones_like", lambda x: x * torch.ones_like(x) + torch.zeros_like(x), M),
    function_layer("full_like", lambda x: x * torch.full_like(x, 3.0), M),
    function_layer("arange", lambda x: x * torch.arange(7, dtype=x.dtype), M),
    function_layer("linspace", lambda x: x * torch.linspace(0, 1, 7, dtype=x.dtype), M),
    function_layer("eye", lambda x: x * torch.eye(5, 7, dtype=x.dtype), M),
    function_layer("isnan", lambda x: torch.where(torch.isnan(x), 0.0, x), M),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

"""Reductions, and sums and products along an axis: values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from function_layers import At, function_layer
from layer_tables import CompiledLayers, Layer

M = (5, 7)

CUMULATIVE = [
    function_layer("cumsum-0", lambda x: x.cumsum(0)),
    function_layer("cumsum-last", lambda x: x.cumsum(-1)),
    function_layer("cumsum-reverse", lambda x: x.flip(1).cumsum(1).flip(1)),
    function_layer("cumsum-exclusive", lambda x: x.cumsum(1) - x),
    function_layer("cumsum-one", lambda x: x.cumsum(1), (3, 1)),
    function_layer("cumprod-0", lambda x: x.cumprod(0)),
    function_layer("cumprod-last", lambda x: x.cumprod(-1)),
    Layer("cumprod-zeros", At(lambda x: x.cumprod(0)), values=([2.0, 0.0, 3.0, 0.0, 4.0],)),
    function_layer("prod", lambda x: x.prod(), (2, 3)),
    function_layer("prod-axis", lambda x: x.prod(1)),
    function_layer("prod-keep", lambda x: x.prod(-1, keepdim=True)),
    Layer("prod-one-zero", At(lambda x: x.prod(1)), values=([[2.0, 0.0, 3.0], [0.0, 0.0, 1.0]],)),
    function_layer("logcumsumexp", lambda x: x.logcumsumexp(1), M),
    function_layer("diff", lambda x: x.diff(dim=1), M),
]

REDUCTIONS = [
    made
    for name, function in [
        ("sum", torch.sum),
        ("mean", torch.mean),
        ("amax", torch.amax),
        ("amin", torch.amin),
        ("var", torch.var),
        ("std", torch.std),
        ("logsumexp", torch.logsumexp),
        ("norm", lambda x, dim, keepdim=False: torch.linalg.vector_norm(x, 2, dim, keepdim)),
    ]
    for made in (
        function_layer(f"{name}-0", lambda x, f=function: f(x, dim=0)),
        function_layer(f"{name}-last-kept", lambda x, f=function: f(x, dim=-1, keepdim=True)),
        function_layer(f"{name}-two-axes", lambda x, f=function: f(x, dim=(0, 2))),
        function_layer(f"{name}-all-axes", lambda x, f=function: f(x, dim=(0, 1, 2))),
    )
] + [
    function_layer("sum-all", torch.sum),
    function_layer("mean-all", torch.mean),
    function_layer("max-all", torch.max),
    function_layer("min-all", torch.min),
    function_layer("var-all", torch.var),
    function_layer("std-all", torch.std),
    function_layer("norm-all", torch.norm),
    function_layer("var-uncorrected", lambda x: x.var(1, correction=0)),
    function_layer("std-uncorrected", lambda x: x.std((0, 1), correction=0)),
    function_layer("var_mean", lambda x: torch.var_mean(x, 1)),
    function_layer("norm-1", lambda x: x.norm(1, 1)),
    function_layer("norm-3", lambda x: x.norm(3, 1)),
    function_layer("norm-infinity", lambda x: x.norm(float("inf"), 1)),
    function_layer("vector_norm", lambda x: torch.linalg.vector_norm(x, 2, (0, 1))),
    function_layer("matrix-norm", lambda x: torch.linalg.matrix_norm(x), M),
    function_layer("normalize", lambda x: F.normalize(x, dim=-1)),
    function_layer("softmax-0", lambda x: x.softmax(0)),
    function_layer("log_softmax-1", lambda x: x.log_softmax(1)),
    function_layer("softmin", lambda x: F.softmin(x, 1), M),
    function_layer("nansum", lambda x: torch.nansum(x, 1), M),
    function_layer("dist", lambda x, y: torch.dist(x, y), M, M),
    function_layer("aminmax", lambda x: torch.aminmax(x, dim=1), M),
    function_layer("all-any", lambda x: x * (x > 3).any(1, keepdim=True), M),
    function_layer("count_nonzero", lambda x: x * (x > 0).sum(1, keepdim=True), M),
]

LAYERS = CUMULATIVE + REDUCTIONS


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

"""Layers of tensors without elements: empty batches, slices and parts, and sums over nothing."""

import pytest
import torch
from function_layers import function_layer
from layer_tables import CompiledLayers, Layer
from torch import nn

M = (5, 7)
NOTHING = torch.zeros(0, dtype=torch.long)
LAYERS = [
    *(
        Layer(f"{type(module).__name__}-of-nothing".lower(), module, ((0, *shape),))
        for module, shape in [
            (nn.Linear(4, 3), (2, 4)),
            (nn.LayerNorm(4), (2, 4)),
            (nn.RMSNorm(4), (2, 4)),
            (nn.GELU(), (4,)),
            (nn.Softmax(-1), (4,)),
            (nn.Conv2d(2, 3, 3), (2, 5, 4)),
            (nn.MaxPool2d(2), (2, 5, 4)),
            (nn.AvgPool2d(2), (2, 5, 4)),
        ]
    ),
    *(
        function_layer(f"matmul-{x}-{y}".replace(" ", ""), torch.matmul, x, y)
        for x, y in [
            ((0, 4), (4, 5)),
            ((2, 0, 4), (4, 5)),
            ((2, 0, 4), (2, 4, 5)),
            ((3, 0), (0, 5)),
            ((2, 3, 0), (0, 5)),
            ((2, 3, 0), (2, 0, 5)),
            ((3, 4), (4, 0)),
            ((0,), (0,)),
        ]
    ),
    function_layer("mul-broadcast", torch.mul, (0, 7), (7,)),
    function_layer("add-column", torch.add, (5, 0), (5, 1)),
    function_layer("slice", lambda x: x[:, 3:3], M),
    function_layer("slice-then-product", lambda x, w: x[2:2] @ w, M, (7, 3)),
    function_layer("slice-then-sum", lambda x: x[2:2].sum(0) + x[0], M),
    function_layer("cat", lambda x, y: torch.cat([x, y], 1), (2, 0), (2, 3)),
    function_layer("cat-slices", lambda x: torch.cat([x[:2], x[2:2], x[2:]]), M),
    function_layer("cat-of-nothing", lambda x, y: torch.cat([x, y]), (0, 3), (0, 3)),
    function_layer("split", lambda x: x.split([0, 5, 2], 1), M),
    function_layer("sum", lambda x: x.sum(1), (3, 0)),
    function_layer("prod", lambda x: x.prod(1), (3, 0)),
    function_layer("cumsum", lambda x: x.cumsum(1), (3, 0)),
    function_layer("reshape", lambda x: x.reshape(0, 6), (2, 0, 3)),
    function_layer("permute", lambda x: x.permute(2, 0, 1), (2, 0, 3)),
    function_layer("pad", lambda x: nn.functional.pad(x, (1, 2), value=3.0), (3, 0)),
    function_layer("expand", lambda x: x.expand(0, 3), (1, 3)),
    function_layer("gather", lambda x, i: x.gather(0, i), M, at=(torch.zeros(0, 7).long(),)),
    function_layer("index_select", lambda x, i: x.index_select(1, i), M, at=(NOTHING,)),
    function_layer("index", lambda x, i: x[i], M, at=(NOTHING,)),
    function_layer("embedding", lambda w, i: nn.functional.embedding(i, w), M, at=(NOTHING,)),
    function_layer(
        "scatter_add",
        lambda x, s, i: x.scatter_add(0, i, s),
        M,
        (0, 7),
        at=(torch.zeros(0, 7).long(),),
    ),
    function_layer("index_put", lambda x, v, i: x.index_put((i,), v), M, (0, 7), at=(NOTHING,)),
    function_layer("where", lambda x, m: torch.where(m, x, 0.0), (0, 7), at=(torch.zeros(7) > 1,)),
    function_layer("einsum", lambda x, y: torch.einsum("ij,jk->ik", x, y), (3, 0), (0, 2)),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

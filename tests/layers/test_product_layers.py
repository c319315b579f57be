"""Matrix products of all ranks, einsum and linear layers: values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from function_layers import function_layer
from layer_tables import CompiledLayers, Layer
from torch import nn


def einsum(equation, *shapes):
    return function_layer(f"einsum-{equation}", lambda *xs: torch.einsum(equation, *xs), *shapes)


def matmul(x, y):
    return function_layer(f"matmul-{x}-{y}".replace(" ", ""), torch.matmul, x, y)


LAYERS = [
    *(
        matmul(x, y)
        for x, y in [
            ((4,), (4,)),
            ((4,), (4, 5)),
            ((3, 4), (4,)),
            ((3, 4), (4, 5)),
            ((1, 4), (4, 1)),
            ((2, 3, 4), (4, 5)),
            ((2, 3, 4), (4,)),
            ((4,), (2, 4, 5)),
            ((3, 4), (2, 4, 5)),
            ((2, 3, 4), (2, 4, 5)),
            ((2, 3, 4), (1, 4, 5)),
            ((2, 1, 3, 4), (5, 4, 2)),
            ((1, 2, 3, 4), (3, 1, 4, 5)),
        ]
    ),
    function_layer("mm", torch.mm, (3, 4), (4, 5)),
    function_layer("bmm", torch.bmm, (2, 3, 4), (2, 4, 5)),
    function_layer("mv", torch.mv, (3, 4), (4,)),
    function_layer("dot", torch.dot, (5,), (5,)),
    function_layer("inner", torch.inner, (2, 5), (3, 5)),
    function_layer("outer", torch.outer, (3,), (5,)),
    function_layer("kron", torch.kron, (2, 3), (3, 2)),
    function_layer("addmm", torch.addmm, (3, 5), (3, 4), (4, 5)),
    function_layer("addmm-row", torch.addmm, (5,), (3, 4), (4, 5)),
    function_layer(
        "addmm-factors",
        lambda b, x, y: torch.addmm(b, x, y, beta=0.5, alpha=2),
        (3, 5),
        (3, 4),
        (4, 5),
    ),
    function_layer("baddbmm", torch.baddbmm, (2, 3, 5), (2, 3, 4), (2, 4, 5)),
    function_layer(
        "baddbmm-factors",
        lambda b, x, y: torch.baddbmm(b, x, y, beta=3, alpha=-1),
        (1, 1, 5),
        (2, 3, 4),
        (2, 4, 5),
    ),
    function_layer("addbmm", torch.addbmm, (3, 5), (2, 3, 4), (2, 4, 5)),
    function_layer("addmv", torch.addmv, (3,), (3, 4), (4,)),
    function_layer(
        "addcmul", lambda a, b, c: torch.addcmul(a, b, c, value=0.5), (3, 1), (3, 4), (4,)
    ),
    function_layer(
        "addcdiv", lambda a, b, c: torch.addcdiv(a, b, c), (3, 1), (3, 4), (4,), low=0.5
    ),
    function_layer(
        "tensordot", lambda x, y: torch.tensordot(x, y, ([1, 2], [0, 1])), (2, 3, 4), (3, 4, 5)
    ),
    function_layer("chain", lambda a, b, c: a @ b @ c, (2, 3), (3, 4), (4, 2)),
    function_layer("cdist", lambda x, y: (x[:, None] - y).pow(2).sum(-1).sqrt(), (3, 4), (5, 4)),
    function_layer("cosine_similarity", lambda x, y: F.cosine_similarity(x, y, -1), (3, 4), (3, 4)),
    Layer("linear", nn.Linear(4, 3), ((2, 5, 4),)),
    Layer("linear-without-bias", nn.Linear(4, 3, bias=False), ((5, 4),)),
    Layer("linear-of-a-vector", nn.Linear(4, 3), ((4,),)),
    Layer("linear-rank-4", nn.Linear(4, 1), ((2, 3, 2, 4),)),
    Layer("bilinear", nn.Bilinear(3, 4, 2), ((5, 3), (5, 4))),
    einsum("ij,jk->ik", (3, 4), (4, 5)),
    einsum("bij,bkj->bik", (2, 3, 4), (2, 5, 4)),
    einsum("i,j->ij", (3,), (4,)),
    einsum("ij->ji", (3, 4)),
    einsum("ij->", (3, 4)),
    einsum("ij->j", (3, 4)),
    einsum("ii->i", (4, 4)),
    einsum("ii->", (4, 4)),
    einsum("ij,ij->", (3, 4), (3, 4)),
    einsum("...ij,jk->...ik", (2, 2, 3, 4), (4, 5)),
    einsum("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
    einsum("abc,cd,db->a", (2, 3, 4), (4, 5), (5, 3)),
    einsum("ij,k->ik", (3, 4), (2,)),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

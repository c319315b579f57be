"""Picking elements by position, by order and from tables: values and gradients."""

import pytest
import torch
from function_layers import function_layer, ints
from layer_tables import CompiledLayers, Layer
from torch import nn

M, C = (5, 7), (3, 4, 5)
PICK = ints([0, 4, 4, 1], [2, 2, 0, 3], [1, 1, 1, 1])

LAYERS = [
    function_layer("gather-0", lambda x, i: x.gather(0, i), M, at=(PICK,)),
    function_layer("gather-1", lambda x, i: x.gather(1, i), M, at=(PICK,)),
    function_layer(
        "gather-last", lambda x, i: x.gather(-1, i), C, at=(torch.ones(3, 4, 1, dtype=torch.long),)
    ),
    function_layer(
        "gather-middle", lambda x, i: x.gather(1, i), C, at=(torch.arange(24).reshape(2, 4, 3) % 4,)
    ),
    function_layer(
        "gather-repeated", lambda x, i: x.gather(0, i), M, at=(torch.zeros(9, 7, dtype=torch.long),)
    ),
    function_layer(
        "take_along_dim", lambda x, i: x.take_along_dim(i, 1), M, at=(torch.arange(5)[:, None],)
    ),
    function_layer("take-flat", lambda x, i: x.take(i), M, at=(ints([0, 34], [7, 7]),)),
    function_layer("index_select-0", lambda x, i: x.index_select(0, i), M, at=(ints(4, 4, 0),)),
    function_layer(
        "index_select-last", lambda x, i: x.index_select(-1, i), C, at=(ints(4, 0, 1, 1),)
    ),
    function_layer("index-rows", lambda x, i: x[i], M, at=(ints(3, 0, 3),)),
    function_layer("index-rows-2d", lambda x, i: x[i], M, at=(ints([3, 0], [1, 3]),)),
    function_layer("index-negative", lambda x, i: x[i], M, at=(ints(-1, -5, 2),)),
    function_layer("index-columns", lambda x, i: x[:, i], M, at=(ints(6, 0, 6),)),
    function_layer("index-pairs", lambda x, i, j: x[i, j], M, at=(ints(0, 3, 3), ints(6, 1, 1))),
    function_layer(
        "index-pairs-broadcast", lambda x, i, j: x[i, j], M, at=(ints([0], [3]), ints(6, 1, 1))
    ),
    function_layer(
        "index-triples", lambda x, i, j, k: x[i, j, k], C, at=(ints(0, 2), ints(3, 1), ints(4, 4))
    ),
    function_layer("index-two-of-three", lambda x, i, j: x[i, j], C, at=(ints(0, 2), ints(3, 1))),
    function_layer(
        "index-last-two", lambda x, i, j: x[:, i, j], C, at=(ints(0, 3, 3), ints(4, 1, 1))
    ),
    function_layer("index-apart", lambda x, i, j: x[i, :, j], C, at=(ints(0, 2, 2), ints(4, 1, 1))),
    function_layer("index-mixed-slice", lambda x, i: x[1:, i, ::2], C, at=(ints(0, 3, 3),)),
    function_layer("index-none", lambda x, i: x[:, None, i], M, at=(ints(0, 3),)),
    function_layer("index-last-token", lambda x, i: x[torch.arange(3), i], C, at=(ints(1, 3, 0),)),
    function_layer("select", lambda x: x[1], C),
    function_layer("select-last", lambda x: x[..., -1], C),
    function_layer("slice-steps", lambda x: x[1::2, ::3], M),
    function_layer("slice-negative", lambda x: x[-3:, :-2], M),
    function_layer("slice-past-the-end", lambda x: x[2:99, 6:], M),
    function_layer("narrow", lambda x: x.narrow(1, 2, 3), M),
    function_layer("diagonal", lambda x: x.diagonal(), M),
    function_layer("diagonal-square", lambda x: x.diagonal(), (4, 4)),
    function_layer("diagonal-offset", lambda x: x.diagonal(2, 1, 2), C),
    function_layer("diag_embed", lambda x: x.diag_embed(), M),
    function_layer("trace", lambda x: x.trace(), (4, 4)),
    function_layer(
        "embedding", lambda w, i: nn.functional.embedding(i, w), M, at=(ints([0, 4], [2, 2]),)
    ),
    function_layer(
        "embedding-vector", lambda w, i: nn.functional.embedding(i, w), M, at=(ints(0, 4, 4),)
    ),
    function_layer(
        "embedding-cube",
        lambda w, i: nn.functional.embedding(i, w),
        M,
        at=(ints([[0], [4]], [[4], [1]]),),
    ),
    function_layer(
        "embedding_bag-sum",
        lambda w, i: nn.functional.embedding_bag(i, w, mode="sum"),
        M,
        at=(ints([0, 4], [2, 2]),),
    ),
    function_layer(
        "embedding_bag-mean",
        lambda w, i: nn.functional.embedding_bag(i, w, mode="mean"),
        M,
        at=(ints([0, 4], [2, 2]),),
    ),
    function_layer(
        "embedding_bag-max",
        lambda w, i: nn.functional.embedding_bag(i, w, mode="max"),
        M,
        at=(ints([0, 4], [2, 3]),),
    ),
    function_layer(
        "embedding_bag-weights",
        lambda w, s, i: nn.functional.embedding_bag(i, w, mode="sum", per_sample_weights=s),
        M,
        (2, 2),
        at=(ints([0, 4], [2, 2]),),
    ),
    function_layer("sort", lambda x: x.sort().values, M),
    function_layer("sort-descending", lambda x: x.sort(0, descending=True).values, C),
    function_layer("topk", lambda x: x.topk(3).values, M),
    function_layer("topk-smallest", lambda x: x.topk(2, 0, largest=False).values, M),
    function_layer("topk-middle", lambda x: x.topk(2, 1).values, C),
    function_layer("max-with-index", lambda x: x.max(1).values, M),
    function_layer("min-with-index", lambda x: x.min(0, keepdim=True).values, M),
    function_layer("median", lambda x: x.median(1).values, M),
    function_layer("kthvalue", lambda x: x.kthvalue(2, 1).values, M),
    function_layer("argmax-no-gradient", lambda x: x * x.argmax(1, keepdim=True), M),
    function_layer("argmin-no-gradient", lambda x: x[0] * x.argmin(0), M),
    function_layer("argsort-gather", lambda x: x.gather(1, x.argsort(1)), M),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

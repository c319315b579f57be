"""Putting elements into places, and choosing by masks: values and gradients."""

import pytest
import torch
from function_layers import function_layer, ints
from layer_tables import CompiledLayers, Layer
from torch import nn

M, C = (5, 7), (3, 4, 5)
PICK = ints([0, 4, 4, 1], [2, 2, 0, 3], [1, 1, 1, 1])
MASK = torch.arange(35).reshape(5, 7) % 3 == 0
ROW_MASK = torch.tensor([True, False, True, True, False])


def set_columns(x, values, columns):
    y = x.clone()
    y[:, columns] = values
    return y


def add_apart(x, values, i, j):
    y = x.clone()
    y[i, :, j] = y[i, :, j] + values
    return y


LAYERS = [
    function_layer(
        "scatter-set",
        lambda x, s, i: x.scatter(0, i, s),
        M,
        (3, 4),
        at=(ints([0, 1, 2, 3], [4, 4, 1, 0], [1, 0, 3, 2]),),
    ),
    function_layer(
        "scatter-set-1",
        lambda x, s, i: x.scatter(1, i, s),
        M,
        (2, 3),
        at=(ints([0, 6, 2], [5, 4, 1]),),
    ),
    function_layer(
        "scatter-number", lambda x, i: x.scatter(1, i, 0.5), M, at=(ints([0, 6], [2, 2]),)
    ),
    function_layer("scatter_add-0", lambda x, s, i: x.scatter_add(0, i, s), M, (3, 4), at=(PICK,)),
    function_layer("scatter_add-1", lambda x, s, i: x.scatter_add(-1, i, s), M, (3, 4), at=(PICK,)),
    function_layer(
        "scatter_reduce-sum",
        lambda x, s, i: x.scatter_reduce(0, i, s, "sum"),
        M,
        (3, 4),
        at=(PICK,),
    ),
    function_layer(
        "index_add", lambda x, s, i: x.index_add(0, i, s), M, (3, 7), at=(ints(0, 4, 4),)
    ),
    function_layer(
        "index_copy", lambda x, s, i: x.index_copy(1, i, s), M, (5, 2), at=(ints(6, 0),)
    ),
    function_layer("index_fill", lambda x, i: x.index_fill(1, i, 2.0), M, at=(ints(6, 0),)),
    function_layer(
        "index_put-set",
        lambda x, v, i, j: x.index_put((i, j), v),
        M,
        (3,),
        at=(ints(0, 3, 4), ints(6, 1, 1)),
    ),
    function_layer(
        "index_put-add",
        lambda x, v, i, j: x.index_put((i, j), v, accumulate=True),
        M,
        (3,),
        at=(ints(0, 3, 3), ints(6, 1, 1)),
    ),
    function_layer(
        "index_put-rows", lambda x, v, i: x.index_put((i,), v), M, (2, 7), at=(ints(0, 3),)
    ),
    function_layer(
        "index_put-rows-add",
        lambda x, v, i: x.index_put((i,), v, accumulate=True),
        M,
        (3, 7),
        at=(ints(0, 3, 3),),
    ),
    function_layer(
        "index_put-one-value", lambda x, v, i: x.index_put((i,), v), M, (), at=(ints(0, 3),)
    ),
    function_layer(
        "index_put-row-value",
        lambda x, v, i: x.index_put((i,), v, accumulate=True),
        M,
        (7,),
        at=(ints(0, 3, 3),),
    ),
    function_layer("index_put-columns", set_columns, M, (5, 2), at=(ints(0, 3),)),
    function_layer("index_put-apart", add_apart, C, (2, 4), at=(ints(0, 2), ints(4, 4))),
    function_layer("index_put-mask", lambda x, v, m: x.index_put((m,), v), M, (), at=(MASK,)),
    function_layer(
        "index_put-mask-values", lambda x, v, m: x.index_put((m,), v), M, (12,), at=(MASK,)
    ),
    function_layer(
        "index_put-mask-rows-add",
        lambda x, v, m: x.index_put((m,), v, accumulate=True),
        M,
        (3, 7),
        at=(ROW_MASK,),
    ),
    function_layer(
        "index_put-mask-row", lambda x, v, m: x.index_put((m,), v), M, (7,), at=(ROW_MASK,)
    ),
    *(
        function_layer(
            f"scatter_reduce-{kind}-{include}",
            lambda x, s, i, kind=kind, include=include: x.scatter_reduce(
                0, i, s, kind, include_self=include
            ),
            M,
            (3, 4),
            at=(PICK,),
        )
        for kind in ("prod", "mean", "amax", "amin")
        for include in (True, False)
    ),
    function_layer("slice_scatter", lambda x, s: x.slice_scatter(s, 1, 1, 7, 2), M, (5, 3)),
    function_layer("slice_scatter-rows", lambda x, s: x.slice_scatter(s, 0, -2), M, (2, 7)),
    function_layer("select_scatter", lambda x, s: x.select_scatter(s, 1, 3), M, (5,)),
    function_layer("masked_fill", lambda x, m: x.masked_fill(m, 0.5), M, at=(MASK,)),
    function_layer(
        "masked_fill-row",
        lambda x, m: x.masked_fill(m[:, None], -1000000000.0).softmax(0),
        M,
        at=(ROW_MASK,),
    ),
    function_layer(
        "masked_fill-infinity",
        lambda x, m: x.masked_fill(m, float("-inf")).softmax(-1),
        M,
        at=(MASK,),
    ),
    function_layer("masked_fill-tensor", lambda x, v, m: x.masked_fill(m, v), M, (), at=(MASK,)),
    function_layer("where", lambda x, y, m: torch.where(m, x, y), M, M, at=(MASK,)),
    function_layer(
        "where-broadcast",
        lambda x, y, m: torch.where(m[:, None], x, y),
        (1, 7),
        (5, 1),
        at=(ROW_MASK,),
    ),
    function_layer("where-number", lambda x, m: torch.where(m, x, 0.0), M, at=(MASK,)),
    function_layer(
        "where-all-broadcast", lambda x, y, m: torch.where(m, x, y), (7,), (2, 1, 1), at=(MASK,)
    ),
    function_layer("masked_scatter", lambda x, s, m: x.masked_scatter(m, s), M, (5, 7), at=(MASK,)),
    function_layer(
        "one_hot", lambda x, i: nn.functional.one_hot(i, 7).to(x) * x, (3, 7), at=(ints(0, 6, 2),)
    ),
    function_layer(
        "one_hot-matmul",
        lambda x, i: nn.functional.one_hot(i, 5).to(x.dtype) @ x,
        M,
        at=(ints([0, 4], [2, 2]),),
    ),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

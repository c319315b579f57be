"""Moving, joining, cutting and repeating: values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from function_layers import function_layer
from layer_tables import CompiledLayers, Layer

M = (5, 7)


@torch.no_grad()
def without_gradient(x):
    return x.exp() + x


LAYERS = [
    function_layer("cat-0", lambda x, y: torch.cat([x, y]), (2, 3), (4, 3)),
    function_layer(
        "cat-last-three", lambda x, y, z: torch.cat([x, y, z], -1), (2, 3), (2, 1), (2, 4)
    ),
    function_layer("cat-with-itself", lambda x: torch.cat([x, x], 1)),
    function_layer("stack-0", lambda x, y: torch.stack([x, y]), M, M),
    function_layer("stack-last", lambda x, y: torch.stack([x, y, x], -1), M, M),
    function_layer("hstack", lambda x, y: torch.hstack([x, y]), (2, 3), (2, 2)),
    function_layer("vstack", lambda x, y: torch.vstack([x, y]), (3,), (3,)),
    function_layer("split-ragged", lambda x: x.split(3, 1), M),
    function_layer("split-sizes", lambda x: x.split([1, 4, 2], -1), M),
    function_layer("split-one-part-used", lambda x: x.split(2, 0)[1], M),
    function_layer("chunk-ragged", lambda x: x.chunk(3, 1), M),
    function_layer("tensor_split", lambda x: x.tensor_split(3, 1), M),
    function_layer("unbind", lambda x: x.unbind(1)),
    function_layer("unbind-some", lambda x: x.unbind(-1)[2]),
    function_layer("tile", lambda x: x.tile(2, 1, 3)),
    function_layer("tile-more-axes", lambda x: x.tile(2, 2, 1, 1), (2, 3)),
    function_layer("tile-short", lambda x: x.tile(2), (2, 3)),
    function_layer("repeat", lambda x: x.repeat(2, 1, 3)),
    function_layer("repeat_interleave", lambda x: x.repeat_interleave(3, 1)),
    function_layer("repeat_interleave-flat", lambda x: x.repeat_interleave(2), (2, 3)),
    function_layer("roll", lambda x: x.roll(2, 1)),
    function_layer("roll-back", lambda x: x.roll(-1, -1)),
    function_layer("roll-two-axes", lambda x: x.roll((1, -2), (0, 2))),
    function_layer("roll-flat", lambda x: x.roll(4), (2, 3)),
    function_layer("roll-all-around", lambda x: x.roll(7, 1), M),
    function_layer("flip", lambda x: x.flip(1)),
    function_layer("flip-two-axes", lambda x: x.flip((0, -1))),
    function_layer("rot90", lambda x: x.rot90(), M),
    function_layer("tril", lambda x: x.tril(), M),
    function_layer("tril-above", lambda x: x.tril(2)),
    function_layer("tril-below", lambda x: x.tril(-1), (7, 5)),
    function_layer("triu", lambda x: x.triu(), M),
    function_layer("triu-below", lambda x: x.triu(-2), (7, 5)),
    function_layer("triu-above", lambda x: x.triu(1)),
    function_layer("squeeze", lambda x: x.squeeze(), (1, 3, 1, 2)),
    function_layer("squeeze-axis", lambda x: x.squeeze(-2), (3, 1, 2)),
    function_layer("squeeze-axes", lambda x: x.squeeze((0, 2)), (1, 3, 1)),
    function_layer("squeeze-nothing", lambda x: x.squeeze(0), (3, 2)),
    function_layer("unsqueeze", lambda x: x.unsqueeze(-1)[None]),
    function_layer("expand", lambda x: x.expand(2, 3, 4), (3, 1)),
    function_layer("expand-minus-one", lambda x: x.expand(2, -1, 4), (3, 1)),
    function_layer("expand_as", lambda x, y: x.expand_as(y) * y, (1, 7), M),
    function_layer("broadcast_to", lambda x: x.broadcast_to(2, 3, 4), (4,)),
    function_layer("broadcast-scalar", lambda x, y: x + y, (), M),
    function_layer("permute", lambda x: x.permute(2, 0, 1)),
    function_layer("permute-negative", lambda x: x.permute(-1, 0, -2)),
    function_layer("transpose", lambda x: x.transpose(0, -1)),
    function_layer("t", lambda x: x.t(), M),
    function_layer("mT", lambda x: x.mT),
    function_layer("movedim", lambda x: x.movedim(0, -1)),
    function_layer("reshape", lambda x: x.reshape(-1, 10)),
    function_layer("view", lambda x: x.view(6, 10)),
    function_layer("flatten", lambda x: x.flatten(1)),
    function_layer("unflatten", lambda x: x.unflatten(1, (2, -1))),
    function_layer("reshape-of-transpose", lambda x: x.transpose(0, 1).reshape(4, 15)),
    function_layer("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (2, 8, 3, 2)),
    function_layer("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), (2, 2, 4, 6)),
    function_layer("channel_shuffle", lambda x: F.channel_shuffle(x, 2), (2, 4, 3, 2)),
    function_layer("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij"), (3,), (4,)),
    function_layer("unfold", lambda x: F.unfold(x, 2), (1, 2, 4, 3)),
    function_layer("fold", lambda x: F.fold(x, (3, 3), 2), (1, 8, 4)),
    function_layer("unfold-windows", lambda x: x.unfold(1, 3, 2), M),
    function_layer("cartesian", lambda x: x[:, None] * x[None], (4,)),
    function_layer("detach", lambda x: x * x.detach(), M),
    function_layer("no_grad", lambda x: x * without_gradient(x), M),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

"""Pools over windows, borders and ragged sizes: values and gradients."""

import pytest
from layer_tables import CompiledLayers, Layer
from torch import nn

SIZES = {1: (11,), 2: (9, 8), 3: (6, 7, 5)}
KINDS = {
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d},
    "avg": {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d},
    "adaptive_avg": {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d},
    "adaptive_max": {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d},
}


def pool(kind: str, axes: int, *args, **options) -> Layer:
    said = "-".join([*map(str, args), *(f"{k}={v}" for k, v in options.items())]).replace(" ", "")
    module = KINDS[kind][axes](*args, **options)
    return Layer(f"{kind}_pool{axes}d-{said}", module, ((2, 3, *SIZES[axes]),))


WINDOWS = [
    (2, {}),
    (3, {"stride": 1}),
    (3, {"stride": 2, "padding": 1}),
    (3, {"stride": 2, "ceil_mode": True}),
    (2, {"stride": 3, "padding": 1, "ceil_mode": True}),
]

LAYERS = [
    *(pool(k, n, w, **o) for k in ("max", "avg") for n in (1, 2, 3) for w, o in WINDOWS),
    *(
        pool("avg", n, 3, stride=2, padding=1, count_include_pad=False, ceil_mode=ceil)
        for n in (1, 2, 3)
        for ceil in (False, True)
    ),
    *(pool("max", n, 3, stride=2, padding=1, dilation=2) for n in (1, 2, 3)),
    pool("max", 1, 2, dilation=3, ceil_mode=True),
    pool("max", 2, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1), ceil_mode=True),
    pool("max", 3, (1, 2, 3), stride=(1, 1, 2)),
    pool("avg", 2, (3, 2), stride=(2, 1), padding=(1, 0)),
    pool("avg", 2, 3, stride=2, padding=1, divisor_override=4),
    pool("avg", 2, 3, stride=2, ceil_mode=True, divisor_override=7),
    pool("avg", 3, 2, divisor_override=3),
    *(pool(f"adaptive_{k}", 1, n) for k in ("avg", "max") for n in (1, 4, 11, 13)),
    *(
        pool(f"adaptive_{k}", 2, size)
        for k in ("avg", "max")
        for size in (1, (3, 4), (4, 3), (9, 8), (10, 9), (None, 2))
    ),
    *(pool(f"adaptive_{k}", 3, size) for k in ("avg", "max") for size in (1, (3, 2, 4), (6, 1, 5))),
    Layer("max_pool2d-tie", nn.MaxPool2d(2, 1), values=([[[[1, 1, 0], [1, 1, 2], [2, 2, 2]]]],)),
    Layer(
        "max_pool3d-tie", nn.MaxPool3d(2, 1), values=([[[[[1, 1], [1, 1], [0, 1]]] * 3][0:1] * 3],)
    ),
    Layer("adaptive_max_pool1d-tie", nn.AdaptiveMaxPool1d(2), values=([[[1, 2, 2]]],)),
    Layer("lp_pool2d", nn.LPPool2d(2, 3, stride=2), ((1, 2, 7, 6),), low=0.5),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

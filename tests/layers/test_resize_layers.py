"""Resizing, shuffling and padding: values and gradients."""

import pytest
import torch.nn.functional as F
from layer_tables import CompiledLayers, Layer
from torch import nn

X = {1: (2, 3, 7), 2: (2, 3, 5, 6), 3: (1, 2, 4, 3, 5)}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize(mode: str, axes: int, **options) -> Layer:
    said = "-".join(f"{k}={v}" for k, v in options.items()).replace(" ", "")
    return Layer(
        f"{mode}{axes}d-{said}", lambda x: F.interpolate(x, mode=mode, **options), (X[axes],)
    )


def pad(mode: str, *widths: int, axes: int, **options) -> Layer:
    name = f"pad{axes}d-{mode}-{','.join(map(str, widths))}"
    return Layer(name, lambda x: F.pad(x, widths, mode, **options), (X[axes],))


LAYERS = [
    *(resize(mode, n, scale_factor=2) for mode in ("nearest", "nearest-exact") for n in (1, 2, 3)),
    *(
        resize(mode, n, size=size)
        for mode in ("nearest", "nearest-exact")
        for n, size in ((1, 5), (2, (8, 4)), (3, (3, 7, 5)))
    ),
    resize("nearest", 2, scale_factor=(1.5, 0.7)),
    *(
        resize(LINEAR[n], n, size=size, align_corners=align)
        for n, size in ((1, 5), (2, (8, 4)), (2, (1, 13)), (3, (3, 7, 5)))
        for align in (False, True)
    ),
    *(
        resize(LINEAR[n], n, scale_factor=factor, align_corners=align)
        for n, factor in ((1, 3), (2, 2), (2, (1.5, 0.7)), (3, 2))
        for align in (False, True)
    ),
    resize("bilinear", 2, scale_factor=1.3, recompute_scale_factor=True),
    *(
        resize("bicubic", 2, align_corners=align, **size)
        for size in ({"size": (8, 4)}, {"scale_factor": 2}, {"scale_factor": (1.5, 0.7)})
        for align in (False, True)
    ),
    *(
        resize(mode, 2, size=size, antialias=True, align_corners=align)
        for mode in ("bilinear", "bicubic")
        for size in ((2, 3), (9, 4))
        for align in (False, True)
    ),
    resize("area", 2, size=(3, 4)),
    resize("bilinear", 2, size=(5, 6)),
    Layer("upsample-module", nn.Upsample(scale_factor=2, mode="bilinear"), (X[2],)),
    Layer(
        "resize-behind-conv",
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1)
        ),
        (X[2],),
    ),
    Layer("pixel_shuffle", nn.PixelShuffle(2), ((2, 8, 3, 2),)),
    Layer("pixel_shuffle-3", nn.PixelShuffle(3), ((1, 9, 2, 3),)),
    Layer("pixel_unshuffle", nn.PixelUnshuffle(2), ((2, 3, 4, 6),)),
    Layer(
        "pixel_shuffle-behind-conv",
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2), nn.Conv2d(2, 1, 2)),
        (X[2],),
    ),
    Layer("channel_shuffle", nn.ChannelShuffle(2), ((2, 6, 2, 3),)),
    *(pad(mode, 2, 1, axes=1) for mode in ("constant", "reflect", "replicate", "circular")),
    *(pad(mode, 1, 2, 2, 0, axes=2) for mode in ("constant", "reflect", "replicate", "circular")),
    *(pad(mode, 1, 2, 2, 0, 1, 1, axes=3) for mode in ("reflect", "replicate", "circular")),
    pad("constant", 1, 0, 0, 2, 1, 1, axes=3, value=0.5),
    pad("constant", -1, 2, axes=2),
    pad("constant", -1, -2, 1, -1, axes=2, value=2.0),
    pad("constant", 0, 0, axes=2),
    pad("constant", 1, 1, 1, 1, 1, 1, 1, 1, axes=2),
    *(
        Layer(
            f"pad-{mode}-between-convs",
            nn.Sequential(nn.Conv2d(3, 4, 2), module((1, 2, 0, 1)), nn.Conv2d(4, 2, 3)),
            (X[2],),
        )
        for mode, module in (
            ("zero", nn.ZeroPad2d),
            ("reflect", nn.ReflectionPad2d),
            ("replicate", nn.ReplicationPad2d),
            ("circular", nn.CircularPad2d),
        )
    ),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

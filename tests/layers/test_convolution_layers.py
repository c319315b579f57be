"""Convolutions over strides, paddings, dilations and groups: values and gradients."""

import itertools

import pytest
from layer_tables import CompiledLayers, Layer
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

SIZES = {1: (11,), 2: (8, 7), 3: (6, 5, 7)}
"""Odd, even, and divisible by no stride."""

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def conv(axes: int, channels=(4, 6), kernel=3, *, batch=2, **options) -> Layer:
    said = "-".join(f"{k}{v}".replace(" ", "") for k, v in options.items())
    name = f"conv{axes}d-{channels[0]}x{channels[1]}-{kernel}-{said}".replace(" ", "")
    module = CONVOLUTIONS[axes](*channels, kernel, **options)
    return Layer(name, module, ((batch, channels[0], *SIZES[axes]),))


def transposed(axes: int, channels=(6, 4), kernel=3, **options) -> Layer:
    said = "-".join(f"{k}{v}".replace(" ", "") for k, v in options.items())
    module = TRANSPOSED[axes](*channels, kernel, **options)
    name = f"conv_transpose{axes}d-{channels[0]}x{channels[1]}-{kernel}-{said}".replace(" ", "")
    return Layer(name, module, ((2, channels[0], *(n // 2 for n in SIZES[axes])),))


GRID = [
    {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    for stride, padding, dilation, groups in itertools.product((1, 2), (0, 2), (1, 2), (1, 2))
]

HALF = [GRID[i] for i in range(16) if i.bit_count() % 2]
"""Half of the grid, with each pair of options in each combination."""

LAYERS = [
    *(conv(1, **options) for options in HALF),
    *(conv(2, **options) for options in GRID),
    *(conv(3, batch=1, **options) for options in GRID[::3]),
    conv(1, (4, 4), 3, groups=4, padding=1, bias=False),
    conv(1, (4, 8), 2, groups=4, stride=3),
    conv(1, kernel=1),
    conv(1, kernel=4, padding="same"),
    conv(1, kernel=3, padding="same", dilation=2),
    conv(1, kernel=11),
    conv(2, (4, 4), 3, groups=4, stride=2, padding=1, bias=False),
    conv(2, (4, 8), (3, 2), groups=4, dilation=(1, 2)),
    conv(2, kernel=(1, 3), padding=(0, 1)),
    conv(2, kernel=(4, 2), stride=(3, 2), padding=(1, 0)),
    conv(2, kernel=4, padding="same"),
    conv(2, kernel=(2, 3), padding="valid"),
    conv(2, kernel=1, stride=2),
    conv(2, kernel=(8, 7)),
    conv(2, kernel=3, padding=1, padding_mode="reflect"),
    conv(2, kernel=3, padding=(1, 2), padding_mode="replicate"),
    conv(2, kernel=3, padding=1, padding_mode="circular"),
    conv(3, kernel=(1, 3, 3), padding=(0, 1, 1)),
    conv(3, kernel=(3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)),
    conv(3, kernel=(2, 3, 1), stride=(1, 2, 3), dilation=(3, 1, 1)),
    conv(3, (4, 4), (2, 2, 2), groups=4),
    conv(3, kernel=2, padding="same"),
    *(transposed(1, **options) for options in HALF),
    *(transposed(2, **options) for options in GRID),
    *(transposed(3, **options) for options in GRID[::3]),
    *(transposed(axes, stride=3, output_padding=2) for axes in (1, 2, 3)),
    *(transposed(axes, kernel=2, stride=2, bias=False) for axes in (1, 2, 3)),
    *(transposed(axes, dilation=3, output_padding=2, padding=1) for axes in (1, 2, 3)),
    transposed(1, (4, 4), 4, stride=2, padding=1, groups=4),
    transposed(2, (4, 4), 4, stride=2, padding=1, groups=4),
    transposed(2, (4, 8), (3, 2), stride=(2, 1), output_padding=(1, 0), groups=2),
    transposed(2, kernel=1, stride=2),
    transposed(3, kernel=(1, 2, 3), stride=(1, 2, 1), output_padding=(0, 1, 0)),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

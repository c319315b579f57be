"""Normalizations, affine and not, with statistics of their own, of the batch, and frozen."""

import pytest
import torch
from layer_tables import CompiledLayers, Layer
from torch import nn

X = {1: (3, 4, 5), 2: (2, 4, 5, 3), 3: (2, 4, 3, 2, 5)}
BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Scaled(nn.Module):
    """A norm whose scale and bias are not those that it was born with."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        for p in norm.parameters():
            nn.init.uniform_(p, 0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


def batch_norms() -> list[Layer]:
    return [
        *(
            Layer(f"batch_norm{n}d-affine={affine}", Scaled(BATCH[n](4, affine=affine)), (X[n],))
            for n in (1, 2, 3)
            for affine in (True, False)
        ),
        Layer("batch_norm1d-rows", Scaled(nn.BatchNorm1d(4, eps=1e-3)), ((6, 4),)),
        Layer(
            "batch_norm2d-behind-conv",
            nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            (X[2],),
        ),
        Layer(
            "batch_norm1d-behind-conv",
            nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)),
            (X[1],),
        ),
        Layer(
            "batch_norm3d-behind-conv",
            nn.Sequential(nn.Conv3d(4, 6, 2), nn.BatchNorm3d(6)),
            (X[3],),
        ),
    ]


FROZEN = [
    *batch_norms(),
    *(
        Layer(
            f"batch_norm{n}d-no-statistics",
            Scaled(BATCH[n](4, track_running_stats=False)),
            (X[n],),
        )
        for n in (1, 2, 3)
    ),
    *(
        Layer(f"instance_norm{n}d-affine={a}", Scaled(INSTANCE[n](4, affine=a)), (X[n],))
        for n in (1, 2, 3)
        for a in (True, False)
    ),
    *(
        Layer(
            f"instance_norm{n}d-running",
            Scaled(INSTANCE[n](4, affine=True, track_running_stats=True)),
            (X[n],),
        )
        for n in (1, 2, 3)
    ),
    *(
        Layer(f"group_norm{n}d-{g}-affine={a}", Scaled(nn.GroupNorm(g, 4, affine=a)), (X[n],))
        for n in (1, 2, 3)
        for g, a in ((1, True), (2, True), (4, True), (2, False))
    ),
    Layer("group_norm-rows", Scaled(nn.GroupNorm(2, 6)), ((3, 6),)),
    Layer(
        "group_norm-behind-conv",
        nn.Sequential(nn.Conv2d(4, 6, 3), Scaled(nn.GroupNorm(3, 6)), nn.SiLU()),
        (X[2],),
    ),
    Layer("layer_norm", Scaled(nn.LayerNorm(6)), ((2, 3, 6),)),
    Layer("layer_norm-plain", nn.LayerNorm(6, elementwise_affine=False), ((2, 3, 6),)),
    Layer("layer_norm-no-bias", Scaled(nn.LayerNorm(6, bias=False)), ((5, 6),)),
    Layer("layer_norm-two-axes", Scaled(nn.LayerNorm((5, 3), eps=1e-3)), (X[2],)),
    Layer("layer_norm-three-axes", Scaled(nn.LayerNorm((4, 5, 3))), (X[2],)),
    Layer("layer_norm-vector", Scaled(nn.LayerNorm(7)), ((7,),)),
    Layer(
        "layer_norm-behind-conv",
        nn.Sequential(nn.Conv2d(4, 6, 2), Scaled(nn.LayerNorm((6, 4, 2)))),
        (X[2],),
    ),
    Layer(
        "layer_norm-behind-conv1d",
        nn.Sequential(nn.Conv1d(4, 6, 2), Scaled(nn.LayerNorm(4))),
        (X[1],),
    ),
    Layer("rms_norm", Scaled(nn.RMSNorm(6, eps=1e-5)), ((2, 3, 6),)),
    Layer("rms_norm-default-eps", Scaled(nn.RMSNorm(6)), ((2, 3, 6),)),
    Layer("rms_norm-plain", nn.RMSNorm(6, elementwise_affine=False), ((4, 6),)),
    Layer("rms_norm-two-axes", Scaled(nn.RMSNorm((5, 3), eps=1e-3)), (X[2],)),
    Layer("local_response_norm", nn.LocalResponseNorm(3, alpha=0.1), (X[2],)),
    Layer("normalize", lambda x: nn.functional.normalize(x, dim=1), ((3, 5),)),
]

TRAIN = batch_norms()


@pytest.fixture(scope="module")
def frozen() -> CompiledLayers:
    return CompiledLayers(FROZEN)


@pytest.fixture(scope="module")
def train() -> CompiledLayers:
    return CompiledLayers(TRAIN, "train")


@pytest.mark.parametrize("layer", FROZEN, ids=lambda layer: layer.name)
def test_layer_matches_torch(frozen: CompiledLayers, layer: Layer) -> None:
    frozen.check(layer)


@pytest.mark.parametrize("layer", TRAIN, ids=lambda layer: layer.name)
def test_batch_norm_in_train_mode_matches_torch(train: CompiledLayers, layer: Layer) -> None:
    train.check(layer)

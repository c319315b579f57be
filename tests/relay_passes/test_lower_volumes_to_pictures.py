"""LowerVolumesToPictures: no operator over volumes is left, and the values are PyTorch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_checks import check_pass, main_of, operators, random_arguments, run
from tvm.relax.op import nn

from pock_tvm.relay_passes.lower_volumes_to_pictures import LowerVolumesToPictures

X, W = (2, 5, 6, 7, 4), (3, 2, 3, 2, 6)


def test_a_convolution_becomes_one_of_pictures() -> None:
    def build(bb, x, w):
        window = {"strides": (2, 1, 2), "padding": (1, 0, 2), "dilation": (1, 2, 1), "groups": 2}
        return bb.emit(nn.conv3d(x, w, **window, data_layout="NDHWC", kernel_layout="DHWIO"))

    before = main_of(build, {"x": X, "w": W})
    after = check_pass(LowerVolumesToPictures(), before, same_values=False)
    assert [name for name in operators(after) if "conv" in name] == ["nn.conv2d"]
    x, w = random_arguments(before)
    y = F.conv3d(
        torch.tensor(x).permute(0, 4, 1, 2, 3),
        torch.tensor(w).permute(4, 3, 0, 1, 2),
        None,
        (2, 1, 2),
        (1, 0, 2),
        (1, 2, 1),
        2,
    )
    np.testing.assert_allclose(run(after, x, w)[0], y.permute(0, 2, 3, 4, 1), rtol=1e-12)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_a_pool_becomes_two(kind: str) -> None:
    pool = getattr(nn, f"{kind}_pool3d")

    def build(bb, x):
        return bb.emit(pool(x, (2, 3, 2), (2, 1, 3), (1, 0, 1), ceil_mode=True, layout="NDHWC"))

    before = main_of(build, {"x": X})
    after = check_pass(LowerVolumesToPictures(), before)  # TVM's own pool agrees
    assert operators(after).count(f"nn.{kind}_pool2d") == 2
    assert f"nn.{kind}_pool3d" not in operators(after)


def test_pictures_and_other_layouts_stay() -> None:
    def build(bb, x):
        return bb.emit(nn.max_pool3d(x, (2, 2, 2)))

    before = main_of(build, {"x": X})
    check_pass(LowerVolumesToPictures(), before, before)

"""DecomposeResize2d: two resamplings, with the values of TVM's own resizing."""

import itertools

import numpy as np
import pytest
from pass_checks import check_pass, main_of, operators, random_arguments, run
from tvm.relax.op import image

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.decompose_resize2d import DecomposeResize2d

METHODS = ("nearest_neighbor", "linear", "cubic")
MODES = ("half_pixel", "align_corners", "asymmetric")


@pytest.mark.parametrize(
    ("method", "mode", "size", "layout"),
    [
        *itertools.product(METHODS, MODES, [(9, 4)], ["NCHW"]),
        *itertools.product(METHODS, MODES[:1], [(2, 13)], ["NHWC"]),
    ],
)
def test_values_are_those_of_tvm(method, mode, size, layout) -> None:
    rounding = "round_prefer_floor" if method == "nearest_neighbor" else "round"
    options = {"layout": layout, "method": method, "rounding_method": rounding}

    def build(bb, x):
        return bb.emit(image.resize2d(x, size, coordinate_transformation_mode=mode, **options))

    shape = (2, 3, 5, 6) if layout == "NCHW" else (2, 5, 6, 3)
    before = main_of(build, {"x": shape}, "float32")
    after = check_pass(DecomposeResize2d(), before, same_values=False)
    (x,) = random_arguments(before)
    np.testing.assert_allclose(run(after, x)[0], run(before, x)[0], rtol=1e-5)
    assert operators(after) == ["pock.resample", "pock.resample"]


def test_a_crop_is_refused() -> None:
    def build(bb, x):
        mode = "tf_crop_and_resize"
        return bb.emit(image.resize2d(x, (4, 4), coordinate_transformation_mode=mode))

    with pytest.raises(UnsupportedModelError, match="tf_crop_and_resize"):
        DecomposeResize2d()(main_of(build, {"x": (1, 1, 2, 2)}))

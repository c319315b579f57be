"""Who folds what: tiles where operands are shared, slices where there are too few threads."""

from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import fuse_kernel, run_kernel
from opencl_device import device_kernel, open_queue, run_launches
from test_conv2d import _conv2d
from tvm.relax import op as R

from pock_tvm.relay_passes.operators.conv2d import Window, weight_grad
from pock_tvm.schedules.cpu.kernels import read_stages
from pock_tvm.schedules.cpu.stages import extent, product
from pock_tvm.schedules.cpu.steps import read_steps
from pock_tvm.schedules.gpu.tiles import Tiling, tiling
from pock_tvm.targets import get_target

DEVICE = get_target("opencl").device
WINDOW = Window((1, 1), (1, 1, 1, 1), (1, 1), 1)
F = "float32"
PIXELS, MAP = ((2, 32, 32, 24), F), ((2, 32, 32, 40), F)
CASES = {
    # Two operands, each without one of the axes.
    "matrix": (R.matmul, ((512, 70), F), ((70, 512), F), Tiling((4, 4), 1, 0)),
    "batched": (R.matmul, ((64, 32, 8), F), ((64, 8, 64), F), Tiling((1, 4, 4), 1, 0)),
    "odd rows": (R.matmul, ((511, 70), F), ((70, 510), F), Tiling((1, 2), 1, 0)),
    "conv": (
        lambda x, w: _conv2d(x, w, WINDOW),
        PIXELS,
        ((3, 3, 24, 40), F),
        Tiling((1, 1, 4, 4), 1, 2),
    ),
    # Too few elements: 540 tiles, each by four threads, a thread for eight columns.
    "conv weight": (
        lambda x, ct: weight_grad(x, ct, (3, 3, 24, 40), WINDOW),
        PIXELS,
        MAP,
        Tiling((1, 1, 4, 4), 4, 2),
    ),
    "one row": (R.matmul, ((1, 1024), F), ((1024, 256), F), Tiling((1, 4), 64, 0)),
    # Every operand has every axis: nothing to share.
    "column sums": (lambda x, y: R.sum(x * y, 0), ((4096, 96), F), ((4096, 96), F), None),
    "short sums": (lambda x, y: R.sum(x * y, 1), ((64, 9), F), ((64, 9), F), Tiling((1,), 1, 0)),
}


def fold_of(func):
    return next(step for step in read_steps(func, read_stages(func)) if step.fold)


@pytest.mark.parametrize("name", CASES)
def test_tiles_and_slices(name):
    build, x, y, expected = CASES[name]
    found = tiling(fold_of(fuse_kernel(build, x, y)), DEVICE)
    assert found == (expected or Tiling((1,), 64, 0))


def test_a_device_that_is_busy_with_less_gets_no_slices():
    build, x, y, _ = CASES["one row"]
    small = replace(DEVICE, busy_threads=64)
    assert tiling(fold_of(fuse_kernel(build, x, y)), small) == Tiling((1, 4), 1, 0)


def test_slices_meet_behind_barriers_that_every_thread_reaches():
    func = fuse_kernel(lambda x: R.sum(x, axis=[0]), ((3001, 100), F))
    (launch,) = device_kernel(func).launches
    assert launch.threads == (64, 1, 1)
    assert launch.source.count("barrier(CLK_LOCAL_MEM_FENCE)") == 6  # 32, 16, 8, 4, 2, 1
    for line in launch.source.splitlines():
        assert "barrier" not in line or line.startswith("  barrier"), "inside a condition"


@pytest.mark.parametrize("name", ["conv weight", "one row", "odd rows"])
def test_values(name):
    build, (x, _), (y, _), _ = CASES[name]
    rng = np.random.default_rng(3)
    narrow = [rng.standard_normal(shape).astype(F) for shape in (x, y)]
    inputs = [a.astype("float64") for a in narrow]
    (expected,) = run_kernel(fuse_kernel(build, *inputs), inputs)
    func = fuse_kernel(build, *narrow)
    (got,) = run_launches(open_queue(), func, narrow)
    # n roundings of partial sums, of either sign: √n of the largest, below the sum of magnitudes.
    terms = product(extent(v) for v in fold_of(func).stage.reduced)
    (bound,) = run_kernel(fuse_kernel(build, *inputs), [np.abs(a) for a in inputs])
    assert (np.abs(got - expected) <= np.finfo(F).eps / 2 * terms**0.5 * bound).all()

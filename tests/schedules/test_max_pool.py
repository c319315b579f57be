"""Max pools with many ties: which pixel won, the gradient, the rule that takes both."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_cases import fuse_kernel, run_on_one_and_two_threads
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.operators.pool2d import Pool, max_pool2d_grad, max_pool2d_taps
from pock_tvm.schedules import rules_for
from pock_tvm.targets import get_target


@pytest.mark.parametrize(
    ("shape", "window", "options"),
    [
        ((2, 13, 12, 35), 3, {"strides": 2, "padding": 1}),
        ((1, 15, 14, 8), 3, {"strides": 2, "padding": 1, "dilation": 2, "ceil_mode": True}),
        ((1, 20, 17, 3), 16, {"strides": 1}),  # more taps than a byte counts
    ],
)
def test_gradients_follow_the_first_greatest_pixel(shape, window, options):
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, shape).astype("float32")
    theirs = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    torch_options = {k.replace("strides", "stride"): v for k, v in options.items()}
    expected = F.max_pool2d(theirs, window, **torch_options)
    ct = rng.integers(-9, 9, expected.permute(0, 2, 3, 1).shape).astype("float32")
    expected.backward(torch.tensor(ct).permute(0, 3, 1, 2))

    y = expected.detach().permute(0, 2, 3, 1).numpy().copy()
    var = relax.Var("x", relax.TensorType(shape, "float32"))
    call = op.nn.max_pool2d(var, (window, window), layout="NHWC", **options)
    pool = Pool.of(relax.BlockBuilder().normalize(call))
    note = fuse_kernel(lambda x, y: max_pool2d_taps(x, y, pool), x, y)
    (taps,), (taps_on_two,) = run_on_one_and_two_threads(note, [x, y])
    assert taps.dtype == ("uint8" if window**2 < 256 else "int32")
    grad = fuse_kernel(lambda t, c: max_pool2d_grad(t, c, pool), taps, ct)
    (x_bar,), (on_two,) = run_on_one_and_two_threads(grad, [taps, ct])
    # Sums of small integers are exact in any order.
    np.testing.assert_array_equal(x_bar, theirs.grad.permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(taps, taps_on_two)
    np.testing.assert_array_equal(x_bar, on_two)
    host = get_target("host")
    for func in (note, grad):
        rule = next(r for r in rules_for(host) if r(func, host) is not None)
        assert rule.__name__ == "reduction"

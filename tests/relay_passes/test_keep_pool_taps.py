"""KeepPoolTaps: the forward pass notes where each maximum was, and keeps no picture for it."""

from pass_checks import check_pass, main_of, operators
from tvm.relax import op

from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.keep_pool_taps import KeepPoolTaps


def net(pool):
    def build(bb, x, w):
        y = bb.emit(pool(bb.emit(x * w), pool_size=(2, 2), strides=(2, 2), layout="NHWC"))
        return bb.emit(op.sum(bb.emit(y * y)))

    return main_of(build, {"x": (1, 4, 6, 3), "w": (3,)})


def test_taps_stand_behind_their_pool():
    before = DeriveBackward(["w"])(net(op.nn.max_pool2d))
    assert operators(before).index("pock.max_pool2d_taps") > operators(before).index("sum")
    names = operators(check_pass(KeepPoolTaps(), before))
    assert names.index("pock.max_pool2d_taps") == names.index("nn.max_pool2d") + 1
    assert sorted(names) == sorted(operators(before))


def test_other_pools_are_left_alone():
    before = DeriveBackward(["w"])(net(op.nn.avg_pool2d))
    assert operators(check_pass(KeepPoolTaps(), before)) == operators(before)

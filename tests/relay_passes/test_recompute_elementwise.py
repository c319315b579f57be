"""RecomputeElementwise: cheap values are made again from what is kept, and others are left."""

from pass_checks import check_pass, main_of, operators
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.recompute_elementwise import RecomputeElementwise


def const(value):
    return relax.const(value, "float64")


def joint(activation):
    def build(bb, x, w):
        y = bb.emit(activation(bb.emit(x * w)))
        return bb.emit(op.sum(bb.emit(y * const(2))))

    derived = DeriveBackward(["w"])(main_of(build, {"x": (2, 6, 3), "w": (3,)}))
    return relax.transform.EliminateCommonSubexpr()(derived)


def hard_swish(x):
    return x * op.clip(x - const(1), 0, 6) / const(6)


def behind_the_loss(mod):
    names = operators(mod)
    return names[names.index("sum") :]


def test_the_factor_of_hard_swish_is_made_again():
    before = joint(hard_swish)
    assert "clip" not in behind_the_loss(before)
    after = check_pass(RecomputeElementwise(), before)
    assert behind_the_loss(after).count("clip") == 1
    assert behind_the_loss(after).count("subtract") == 1 + behind_the_loss(before).count("subtract")


def test_what_learns_is_not_read_again():
    """A weight has changed by the time of the copy, perhaps."""

    def build(bb, x, w):
        scaled = bb.emit(op.clip(bb.emit(x * w), 0, 6))
        return bb.emit(op.sum(bb.emit(scaled * scaled)))

    before = DeriveBackward(["w"])(main_of(build, {"x": (2, 6, 3), "w": (3,)}))
    assert operators(check_pass(RecomputeElementwise(), before)) == operators(before)


def test_a_mask_of_what_is_not_kept_stays():
    before = joint(lambda x: op.clip(x, 0, 6))
    assert operators(check_pass(RecomputeElementwise(), before)) == operators(before)


def test_transcendental_functions_are_left_to_rematerialize():
    before = joint(lambda x: x * op.exp(x))
    assert operators(check_pass(RecomputeElementwise(), before)) == operators(before)

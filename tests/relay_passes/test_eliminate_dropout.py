"""EliminateDropout: every dropout becomes its operand."""

from pass_checks import check_pass, main_of
from tvm.relax.op import add, tanh

from pock_tvm.relay_passes.eliminate_dropout import EliminateDropout, count_dropouts
from pock_tvm.relay_passes.operators.dropout import dropout


def test_dropouts_disappear() -> None:
    def build(bb, x):
        y = bb.emit(dropout(bb.emit(tanh(x)), p=0.5, stream=0))
        return bb.emit(add(y, bb.emit(dropout(x, p=0.1, stream=1))))

    before = main_of(build, {"x": (2, 3)})
    expected = main_of(lambda bb, x: bb.emit(add(bb.emit(tanh(x)), x)), {"x": (2, 3)})
    assert count_dropouts(before) == 2
    check_pass(EliminateDropout(), before, expected, same_values=False)


def test_other_operators_are_left_alone() -> None:
    before = main_of(lambda bb, x: bb.emit(tanh(x)), {"x": (2, 3)})
    assert count_dropouts(before) == 0
    check_pass(EliminateDropout(), before, before)

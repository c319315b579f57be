"""FoldConstants: what depends on no parameter is computed once."""

import numpy as np
from pass_checks import check_pass, main_of, operators
from tvm import relax
from tvm.relax.op import add, arange, broadcast_to, greater, reshape, where

from pock_tvm.relay_passes import fold_constants
from pock_tvm.relay_passes.fold_constants import FoldConstants


def causal(bb, x):
    column = bb.emit(arange(0, 4, 1, "int64"))
    row = bb.emit(reshape(column, (4, 1)))
    later = bb.emit(greater(bb.emit(broadcast_to(column, (4, 4))), row))
    mask = bb.emit(where(later, relax.const(-1e9, "float64"), relax.const(0.0, "float64")))
    return bb.emit(add(x, mask))


def test_a_mask_becomes_one_constant() -> None:
    after = check_pass(FoldConstants(), main_of(causal, {"x": (4, 4)}))
    assert operators(after) == ["add"]
    (block,) = after["main"].body.blocks
    mask = block.bindings[0].value.args[1].value.numpy()
    np.testing.assert_array_equal(mask, np.triu(np.full((4, 4), -1e9), 1))


def test_what_reads_a_parameter_stays() -> None:
    before = main_of(lambda bb, x: bb.emit(add(x, relax.const(1.0, "float64"))), {"x": (3,)})
    check_pass(FoldConstants(), before, before)


def test_a_large_constant_is_left_to_the_device(monkeypatch) -> None:
    monkeypatch.setattr(fold_constants, "MAX_ELEMENTS", 8)
    assert "broadcast_to" in operators(FoldConstants()(main_of(causal, {"x": (4, 4)})))

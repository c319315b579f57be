"""SliceTouchedRows: a gradient row per index, repeats summed in the first of them."""

import numpy as np
import pytest
import tvm
from pass_checks import operators, run
from tvm import relax
from tvm.relax import op

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.slice_touched_rows import SliceTouchedRows, rows_name

ROWS, COLUMNS = 7, 3
INDICES = np.array([[4, 1, 4], [0, 1, 4]], "int32")


def derived(tied=False):
    """Return a model that squares the rows it looks up; tied, it adds the whole table too."""
    w = relax.Var("w", relax.TensorType((ROWS, COLUMNS), "float64"))
    i = relax.Var("i", relax.TensorType(INDICES.shape, "int32"))
    bb = relax.BlockBuilder()
    with bb.function("main", [w, i]):
        with bb.dataflow():
            y = bb.emit(op.take(w, i, axis=0))
            loss = bb.emit(op.sum(bb.emit(y * y)))
            if tied:
                loss = bb.emit(loss + bb.emit(op.sum(w)))
            out = bb.emit_output(loss)
        bb.emit_func_output(out)
    return DeriveBackward(["w"])(bb.get())


def test_rows_and_where_they_go():
    before = derived()
    untouched = before.clone()
    after = SliceTouchedRows(["w"], ["w"])(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises
    part = after["main"].params[-1]
    assert (part.name, [int(n) for n in part.ty.shape]) == (rows_name("w"), [6, COLUMNS])
    w = np.random.default_rng(0).standard_normal((ROWS, COLUMNS))
    loss, dense = run(before, w, INDICES)
    again, flat, target, rows = run(after, w, INDICES, np.zeros((6, COLUMNS)))
    assert again == loss
    assert flat.tolist() == [4, 1, 4, 0, 1, 4]
    assert target.tolist() == [4, 1, -1, 0, -1, -1]
    wanted = np.zeros((6, COLUMNS))
    for at, row in enumerate(target):
        if row >= 0:
            wanted[at] = dense[row]
    np.testing.assert_allclose(rows, wanted, rtol=1e-14)
    # Nothing of the table's size is made any more.
    shapes = [
        [int(n) for n in b.value.ty.shape]
        for block in after["main"].body.blocks
        for b in block.bindings
        if isinstance(b.value, relax.Call)
    ]
    assert [ROWS, COLUMNS] not in shapes


def test_a_tied_table_is_refused():
    with pytest.raises(UnsupportedModelError, match="lazy-rows on w: its gradient comes from more"):
        SliceTouchedRows(["w"], ["w"])(derived(tied=True))


def test_without_tables_nothing_changes():
    before = derived()
    assert operators(SliceTouchedRows([], ["w"])(before)) == operators(before)

"""UpdateTouchedRows: which updates shrink to rows, and that the rows get the same values."""

import numpy as np
from pass_checks import operators, run
from tvm import relax
from tvm.relax.op import add, multiply, subtract

from pock_tvm.relay_passes.operators.scatter_add import scatter_add
from pock_tvm.relay_passes.update_touched_rows import UpdateTouchedRows

ROWS, COLUMNS, COUNT = 6, 5, 4


def step(gradient_of, dtype="float64"):
    """Return ``main(w, ct, indices, rate) -> w - rate * gradient_of(...)``."""
    w = relax.Var("w", relax.TensorType((ROWS, COLUMNS), dtype))
    ct = relax.Var("ct", relax.TensorType((COUNT, COLUMNS), dtype))
    indices = relax.Var("indices", relax.TensorType((COUNT,), "int32"))
    rate = relax.Var("rate", relax.TensorType((), dtype))
    bb = relax.BlockBuilder()
    with bb.function("main", [w, ct, indices, rate]):
        with bb.dataflow():
            gradient = bb.emit(gradient_of(bb, w, ct, indices))
            new = bb.emit_output(subtract(w, bb.emit(multiply(rate, gradient))))
        bb.emit_func_output(new)
    return bb.get()


def embedding(bb, w, ct, indices):
    return scatter_add(ct, indices, (ROWS, COLUMNS), 0)


def test_an_embedding_is_updated_by_rows() -> None:
    before = step(embedding)
    untouched = before.script()
    after = UpdateTouchedRows()(before)
    assert before.script() == untouched
    assert operators(after) == ["pock.row_update"]
    rng = np.random.default_rng(0)
    w, ct = rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal((COUNT, COLUMNS))
    indices = np.array([2, 0, 2, 5], "int32")  # one row twice, three rows never
    arguments = (w, ct, indices, np.array(0.5))
    wanted = w.copy()
    np.subtract.at(wanted, indices, 0.5 * ct)
    np.testing.assert_allclose(run(before, *arguments)[0], wanted, rtol=1e-14)
    np.testing.assert_allclose(run(after, *arguments)[0], wanted, rtol=1e-14)


def test_a_tied_table_keeps_its_dense_gradient() -> None:
    def tied(bb, w, ct, indices):
        return add(bb.emit(embedding(bb, w, ct, indices)), w)

    before = step(tied)
    assert operators(UpdateTouchedRows()(before)) == operators(before)


def test_a_gradient_along_another_axis_stays() -> None:
    def columns(bb, w, ct, indices):
        flipped = bb.emit(relax.op.permute_dims(ct, [1, 0]))
        rows = bb.emit(scatter_add(flipped, indices, (COLUMNS, ROWS), 1))
        return relax.op.permute_dims(rows, [1, 0])

    before = step(columns)
    assert "pock.scatter_add" in operators(UpdateTouchedRows()(before))

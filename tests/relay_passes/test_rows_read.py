"""rows_read: rows in flat memory, and what of an operand a row of the result needs."""

import numpy as np
import pytest
from pass_checks import main_of, random_arguments, run
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import op

from pock_tvm.relay_passes.batch_axis import flat_operands
from pock_tvm.relay_passes.rewrite import bindings_of, static_shape
from pock_tvm.relay_passes.rows_read import Axis, Rows, operand_rows, rows_taken

TOKEN = Rows(2, 6, 12, 0, 1)
"""The first of 6 tokens of 2 samples, 12 features each."""


@pytest.mark.parametrize(
    "shape, place, narrowed",
    [
        ((2, 6, 12), Axis(1, 1, 1), (2, 1, 12)),
        ((12, 12), Axis(0, 2, 1), (2, 12)),
        ((2, 72), Axis(1, 1, 12), (2, 12)),
        ((144,), Axis(0, 2, 12), (24,)),
        ((2, 6, 3, 4), Axis(1, 1, 1), (2, 1, 3, 4)),
        ((1, 2, 1, 6, 12), Axis(3, 1, 1), (1, 2, 1, 1, 12)),
    ],
)
def test_rows_in_the_shapes_of_one_tensor(shape, place, narrowed) -> None:
    assert TOKEN.place(shape) == place
    assert TOKEN.narrowed(shape) == narrowed
    assert TOKEN.at(shape, place) == TOKEN


@pytest.mark.parametrize("shape", [(2, 2, 3, 12), (4, 3, 12), (9, 16)])
def test_rows_that_no_axis_holds(shape) -> None:
    assert TOKEN.place(shape) is None
    with pytest.raises(ValueError, match="no axis"):
        TOKEN.narrowed(shape)


def test_joined() -> None:
    assert TOKEN.joined(Rows(2, 6, 12, 3, 4)) == Rows(2, 6, 12, 0, 4)
    assert TOKEN.joined(Rows(12, 12, 1, 0, 1)) is None


def _call(build, *shapes) -> relax.Call:
    mod = main_of(build, {f"x{i}": shape for i, shape in enumerate(shapes)})
    return next(bindings_of(mod["main"])).value


@pytest.mark.parametrize(
    "build, taken",
    [
        (lambda bb, x0: bb.emit(op.take(x0, relax.const(2, "int64"), axis=1)), (2, 3)),
        (lambda bb, x0: bb.emit(op.take(x0, relax.const([5], "int64"), axis=-2)), (5, 6)),
        (lambda bb, x0: bb.emit(op.strided_slice(x0, [1], [1], [3])), (1, 3)),
        (lambda bb, x0: bb.emit(op.strided_slice(x0, [-2], [-2], [100])), (4, 6)),
        (lambda bb, x0: bb.emit(op.take(x0, relax.const([1, 2], "int64"), axis=1)), None),
        (lambda bb, x0: bb.emit(op.strided_slice(x0, [1], [0], [6], [2])), None),
        (lambda bb, x0: bb.emit(op.strided_slice(x0, [1, 2], [0, 0], [1, 1])), None),
        (lambda bb, x0: bb.emit(op.exp(x0)), None),
    ],
)
def test_what_a_slice_takes(build, taken) -> None:
    assert rows_taken(_call(build, (2, 6, 12))) == (taken and Rows(2, 6, 12, *taken))


TOKENS, SCORES = (2, 6, 12), (2, 3, 6, 6)
CALLS = {
    "exp": (lambda bb, x0: bb.emit(op.exp(x0)), TOKENS),
    "add": (lambda bb, x0, x1: bb.emit(op.add(x0, x1)), TOKENS, TOKENS),
    "add a bias": (lambda bb, x0, x1: bb.emit(op.add(x0, x1)), TOKENS, (12,)),
    "add positions": (lambda bb, x0, x1: bb.emit(op.add(x0, x1)), TOKENS, (6, 12)),
    "add to each token": (lambda bb, x0, x1: bb.emit(op.add(x0, x1)), TOKENS, (2, 6, 1)),
    "add to merged tokens": (lambda bb, x0, x1: bb.emit(op.add(x0, x1)), (12, 12), (12, 1)),
    "reshape": (lambda bb, x0: bb.emit(op.reshape(x0, (12, 12))), TOKENS),
    "permute": (lambda bb, x0: bb.emit(op.permute_dims(x0, [0, 2, 1])), (2, 12, 6)),
    "reverse": (lambda bb, x0: bb.emit(op.permute_dims(x0)), (12, 6, 2)),
    "softmax": (lambda bb, x0: bb.emit(op.nn.softmax(x0, -1)), TOKENS),
    "norm": (
        lambda bb, x0, x1, x2: bb.emit(op.nn.layer_norm(x0, x1, x2, [-1])),
        TOKENS,
        (12,),
        (12,),
    ),
    "mean": (lambda bb, x0: bb.emit(op.mean(x0, [1])), (2, 5, 6, 12)),
    "sum, kept": (lambda bb, x0: bb.emit(op.sum(x0, [2], keepdims=True)), (2, 6, 12)),
    "concat": (lambda bb, x0, x1: bb.emit(op.concat([x0, x1], 2)), (2, 6, 5), (2, 6, 7)),
    "linear": (lambda bb, x0, x1: bb.emit(op.matmul(x0, x1)), (2, 6, 4), (4, 12)),
    "linear of merged": (lambda bb, x0, x1: bb.emit(op.matmul(x0, x1)), (12, 4), (4, 12)),
    "of each sample": (lambda bb, x0, x1: bb.emit(op.matmul(x0, x1)), (2, 6, 4), (2, 4, 12)),
    "of each token": (
        lambda bb, x0, x1: bb.emit(op.matmul(x0, x1)),
        (2, 6, 2, 4),
        (6, 4, 6),
    ),
}


@pytest.mark.parametrize("build, shapes", [(c[0], c[1:]) for c in CALLS.values()], ids=[*CALLS])
@pytest.mark.parametrize("begin, end", [(0, 1), (2, 4)])
def test_other_rows_make_no_difference(build, shapes, begin, end) -> None:
    """Change what is said not to be read: the rows of the result stay, the others do not."""
    mod = main_of(lambda bb, **xs: build(bb, **xs), {f"x{i}": s for i, s in enumerate(shapes)})
    call = next(bindings_of(mod["main"])).value
    result = static_shape(call)
    inner = int(np.prod(result)) // 12
    rows = Rows(2, 6, inner, begin, end)
    needs = operand_rows(call, rows)
    assert needs is not None
    arguments = random_arguments(mod)
    changed = []
    for operand, need in zip(arguments, needs, strict=True):
        kept = operand
        if need is not None:
            kept = operand**2
            apart = (need.outer, need.extent, need.inner)
            places = slice(need.begin, need.end)
            kept.reshape(apart)[:, places] = operand.reshape(apart)[:, places]
            assert need.count == rows.count
        changed.append(kept)
    assert any(need is not None for need in needs)
    before, after = (run(mod, *values)[0].reshape(2, 6, inner) for values in (arguments, changed))
    np.testing.assert_array_equal(after[:, begin:end], before[:, begin:end])
    assert (after != before).any()


@pytest.mark.parametrize(
    "build, shapes, rows",
    [
        (lambda bb, x0: bb.emit(op.nn.softmax(x0, 1)), (TOKENS,), TOKEN),
        (lambda bb, x0, x1: bb.emit(op.nn.layer_norm(x0, x1, x1, [1])), (TOKENS, (6,)), TOKEN),
        (lambda bb, x0, x1: bb.emit(op.concat([x0, x1], 1)), ((2, 2, 12), (2, 4, 12)), TOKEN),
        (lambda bb, x0, x1: bb.emit(op.matmul(x0, x1)), ((2, 4), (4, 6)), Rows(2, 6, 1, 0, 1)),
        (lambda bb, x0: bb.emit(op.reshape(x0, (2, 6, 12))), ((4, 3, 12),), TOKEN),
        (lambda bb, x0: bb.emit(op.cumsum(x0, 1)), (TOKENS,), TOKEN),
    ],
    ids=["softmax over rows", "norm over rows", "concat of rows", "columns", "split", "unknown"],
)
def test_rows_that_cannot_be_had_alone(build, shapes, rows) -> None:
    call = _call(build, *shapes)
    assert not any(isinstance(x, GenericConst) for x in flat_operands(call))
    assert operand_rows(call, rows) is None

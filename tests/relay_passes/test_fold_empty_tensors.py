"""FoldEmptyTensors: constants for what has no elements, and for sums over nothing."""

import numpy as np
from pass_checks import check_pass, main_of, operators, run
from tvm.relax.op import add, concat, matmul, split, strided_slice
from tvm.relax.op import sum as sum_axes

from pock_tvm.relay_passes.fold_empty_tensors import FoldEmptyTensors


def nothing_of(bb, x):
    return bb.emit(strided_slice(x, [1], [2], [2]))


def test_a_product_over_nothing_is_zeros() -> None:
    def before(bb, x, w):
        rows = bb.emit(strided_slice(w, [0], [1], [1]))
        return bb.emit(add(bb.emit(matmul(nothing_of(bb, x), rows)), x))

    # values differ from those of the module before, whose loops never write the sum's first value
    mod = main_of(before, {"x": (3, 4), "w": (5, 4)})
    after = check_pass(FoldEmptyTensors(), mod, same_values=False)
    assert operators(after) == ["zeros", "add"]
    x, w = np.ones((3, 4)), np.ones((5, 4))
    np.testing.assert_array_equal(run(after, x, w)[0], x)


def test_empty_parts_of_a_concat_are_left_out() -> None:
    def before(bb, x):
        return bb.emit(add(bb.emit(concat([nothing_of(bb, x), x, nothing_of(bb, x)], 1)), x))

    after = check_pass(FoldEmptyTensors(), main_of(before, {"x": (3, 4)}))
    assert operators(after) == ["add"]


def test_a_split_with_an_empty_part_becomes_slices() -> None:
    def before(bb, x):
        parts = bb.emit(split(x, [0, 1], 1))
        return bb.emit(add(bb.emit(sum_axes(parts[0], [1])), bb.emit(sum_axes(parts[2], [1]))))

    mod = main_of(before, {"x": (3, 4)})
    after = check_pass(FoldEmptyTensors(), mod, same_values=False)
    assert "split" not in operators(after)
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(run(after, x)[0], x[:, 1:].sum(1))


def test_a_graph_without_empty_tensors_is_left_alone() -> None:
    def before(bb, x):
        parts = bb.emit(split(x, 2, 1))
        return bb.emit(concat([parts[0], parts[1]], 0))

    mod = main_of(before, {"x": (3, 4)})
    check_pass(FoldEmptyTensors(), mod, mod)

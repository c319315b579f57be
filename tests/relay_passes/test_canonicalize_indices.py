"""CanonicalizeIndices: constant indices counted from the start of their axis."""

import numpy as np
import pytest
from pass_checks import check_pass, main_of, run
from tvm import relax
from tvm.relax.op import take

from pock_tvm import PockError
from pock_tvm.relay_passes.canonicalize_indices import CanonicalizeIndices

SHAPES = {"x": (2, 3, 4)}


def taking(indices, axis):
    index = relax.const(np.array(indices, "int64"), "int64")
    return main_of(lambda bb, x: bb.emit(take(x, index, axis)), SHAPES)


@pytest.mark.parametrize("indices", [-1, [0, -3, 2]])
def test_negative_ones_count_from_the_end(indices) -> None:
    counted = np.arange(3)[np.array(indices)]
    after = check_pass(
        CanonicalizeIndices(), taking(indices, 1), taking(counted, 1), same_values=False
    )
    x = np.random.default_rng(0).standard_normal(SHAPES["x"])
    np.testing.assert_array_equal(run(after, x)[0], x[:, indices])


def test_others_stay() -> None:
    before = taking([0, 2], 1)
    check_pass(CanonicalizeIndices(), before, before)


def test_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(PockError, match="takes rows -4 to 0 of an axis of 3"):
        CanonicalizeIndices()(taking([-4, 0], 1))

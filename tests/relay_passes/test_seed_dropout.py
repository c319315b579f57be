"""SeedDropout: one counter for all dropouts, advanced once per call."""

import numpy as np
from pass_checks import check_pass, main_of, operators, run
from tvm.relax.op import add

from pock_tvm.relay_passes.operators.dropout import dropout
from pock_tvm.relay_passes.seed_dropout import SeedDropout


def two_dropouts(bb, x):
    first = bb.emit(dropout(x, p=0.5, stream=0))
    return bb.emit(dropout(bb.emit(add(first, first)), p=0.25, stream=3, shared=[1]))


def test_every_dropout_gets_the_keys_of_one_counter() -> None:
    after = check_pass(SeedDropout(), main_of(two_dropouts, {"x": (4, 6)}), same_values=False)
    main = after["main"]
    assert [p.name for p in main.params] == ["x", "random.counter"]
    assert list(main.attrs["running_statistics"]) == ["random.counter"]
    assert operators(after) == ["pock.dropout_keys", "add", "pock.dropout", "add", "pock.dropout"]
    assert int(after["main"].body.blocks[0].bindings[0].value.attrs["streams"]) == 4


def test_the_counter_goes_up_by_one_draw_and_the_masks_change() -> None:
    after = SeedDropout()(main_of(two_dropouts, {"x": (4, 6)}))
    x = np.ones((4, 6))
    y, counter = run(after, x, np.array([11, 41]))
    np.testing.assert_array_equal(counter, [11, 42])
    np.testing.assert_array_equal(run(after, x, np.array([11, 41]))[0], y)
    assert not np.array_equal(run(after, x, np.array([11, 42]))[0], y)
    assert not np.array_equal(run(after, x, np.array([12, 41]))[0], y)


def test_what_batch_norm_returns_stays_in_front() -> None:
    before = main_of(lambda bb, x: (two_dropouts(bb, x), x), {"x": (4, 6)})
    before["main"] = before["main"].with_attr("running_statistics", ["norm.running_mean"])
    main = SeedDropout()(before)["main"]
    assert list(main.attrs["running_statistics"]) == ["norm.running_mean", "random.counter"]
    assert len(main.ret_ty.fields) == 3


def test_a_model_without_dropout_is_left_alone() -> None:
    before = main_of(lambda bb, x: bb.emit(add(x, x)), {"x": (4,)})
    check_pass(SeedDropout(), before, before)

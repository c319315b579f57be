"""SimplifyShapes: what counts as a rename, and what has to move memory."""

import pytest
from pass_checks import check_pass, main_of, operators
from tvm import relax
from tvm.relax.op import (
    add,
    astype,
    broadcast_to,
    exp,
    expand_dims,
    multiply,
    permute_dims,
    reshape,
    squeeze,
)

from pock_tvm.relay_passes.simplify_shapes import SimplifyShapes

SHAPES = {"x": (2, 3, 4)}


def left(build, shapes=SHAPES) -> list[str]:
    return operators(check_pass(SimplifyShapes(), main_of(build, shapes)))


def chain(*steps):
    def build(bb, x):
        for step in steps:
            x = bb.emit(step(x))
        return bb.emit(exp(x))

    return build


@pytest.mark.parametrize(
    "steps, expected",
    [
        ([lambda x: expand_dims(x, 0), lambda x: squeeze(x, [0])], ["exp"]),
        ([lambda x: reshape(x, (6, 4)), lambda x: reshape(x, (2, 12))], ["reshape", "exp"]),
        ([lambda x: permute_dims(x, [2, 0, 1]), lambda x: permute_dims(x, [1, 2, 0])], ["exp"]),
        (
            [lambda x: permute_dims(x, [1, 0, 2]), lambda x: permute_dims(x, [0, 2, 1])],
            ["permute_dims", "exp"],
        ),
        ([lambda x: broadcast_to(x, (2, 3, 4))], ["exp"]),
        ([lambda x: broadcast_to(x, (5, 2, 3, 4))], ["broadcast_to", "exp"]),
        ([lambda x: astype(x, "float64")], ["exp"]),
        ([lambda x: add(x, relax.const(0.0, "float64"))], ["exp"]),
        ([lambda x: multiply(relax.const(1.0, "float64"), x)], ["exp"]),
        ([lambda x: add(x, relax.const(1.0, "float64"))], ["add", "exp"]),
    ],
)
def test_chain(steps, expected) -> None:
    assert left(chain(*steps)) == expected


def test_moving_an_axis_of_one_is_a_view() -> None:
    build = chain(lambda x: permute_dims(x, [1, 0, 2]))
    assert left(build, {"x": (1, 3, 4)}) == ["reshape", "exp"]


def test_an_index_that_was_widened_for_nothing() -> None:
    def build(bb, x):
        wide = bb.emit(astype(x, "int64"))
        return bb.emit(astype(wide, "int32"))

    mod = SimplifyShapes()(main_of(build, {"x": (4,)}, dtype="int32"))
    assert operators(mod) == []

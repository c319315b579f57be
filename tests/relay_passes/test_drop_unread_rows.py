"""DropUnreadRows: a slice moves up to where all rows are needed, and no number changes."""

import numpy as np
import pytest
from pass_checks import check_pass, main_of, operators, random_arguments, run
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.drop_unread_rows import DropUnreadRows
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, static_shape

SAMPLES, TOKENS, WIDTH, HEADS = 2, 6, 8, 2


def first(bb, x, axis=1):
    return bb.emit(op.take(x, relax.const(0, "int64"), axis=axis))


def rows_of_products(mod) -> list[int]:
    """Return how many rows each matrix product of ``main`` computes, all samples and heads."""
    calls = [b.value for b in bindings_of(mod["main"]) if is_call_to(b.value, "relax.matmul")]
    return [int(np.prod(static_shape(call)[:-1])) for call in calls]


def mlp(bb, x, w, b, v):
    merged = bb.emit(op.reshape(x, (SAMPLES * TOKENS, WIDTH)))
    h = bb.emit(op.nn.gelu(bb.emit(op.add(bb.emit(op.matmul(merged, w)), b))))
    y = bb.emit(op.reshape(bb.emit(op.matmul(h, v)), (SAMPLES, TOKENS, WIDTH)))
    return bb.emit(op.add(x, y))


MLP = {"x": (SAMPLES, TOKENS, WIDTH), "w": (WIDTH, 20), "b": (20,), "v": (20, WIDTH)}


def block(bb, x, w, b, v, q, k, s):
    """A transformer's block: ``x`` is read by the queries, the keys (values too) and a sum."""
    x = bb.emit(op.exp(x))  # a slice of a parameter is left alone
    split = (SAMPLES, TOKENS, HEADS, WIDTH // HEADS)
    queries, keys = (
        bb.emit(op.permute_dims(bb.emit(op.reshape(bb.emit(op.matmul(x, u)), split)), [0, 2, 1, 3]))
        for u in (q, k)
    )
    scores = bb.emit(op.matmul(queries, bb.emit(op.permute_dims(keys, [0, 1, 3, 2]))))
    weights = bb.emit(op.nn.softmax(scores, -1))
    mixed = bb.emit(op.permute_dims(bb.emit(op.matmul(weights, keys)), [0, 2, 1, 3]))
    attended = bb.emit(op.add(x, bb.emit(op.reshape(mixed, (SAMPLES, TOKENS, WIDTH)))))
    y = mlp(bb, bb.emit(op.nn.layer_norm(attended, s, s, [-1])), w, b, v)
    return first(bb, y)


BLOCK = {**MLP, "q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "s": (WIDTH,)}


def test_a_block_of_which_one_token_is_read() -> None:
    before = main_of(block, BLOCK)
    after = check_pass(DropUnreadRows(), before)
    tokens = SAMPLES * TOKENS
    #                                 queries, keys, scores, mixed and the two layers
    assert rows_of_products(before) == [tokens, tokens, *[HEADS * tokens] * 2, tokens, tokens]
    one = SAMPLES
    assert rows_of_products(after) == [one, tokens, *[HEADS * one] * 2, one, one]


def test_the_gradients_are_the_same() -> None:
    def with_loss(bb, **tensors):
        return bb.emit(op.sum(bb.emit(op.square(block(bb, **tensors)))))

    before = main_of(with_loss, BLOCK)
    after = DropUnreadRows()(before)
    assert rows_of_products(after) != rows_of_products(before)
    arguments = random_arguments(before)
    names = [*BLOCK]
    narrow, wide = (run(DeriveBackward(names)(mod), *arguments) for mod in (after, before))
    assert len(narrow) == len(names) + 1
    for got, wanted in zip(narrow, wide, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12 * np.abs(wanted).max())


def test_two_slices_leave_what_both_read() -> None:
    def build(bb, x, w, b, v):
        y = bb.emit(op.exp(mlp(bb, bb.emit(op.exp(x)), w, b, v)))
        second = bb.emit(op.strided_slice(y, [1], [1], [3]))
        return first(bb, y), second

    after = check_pass(DropUnreadRows(), main_of(build, MLP))
    assert rows_of_products(after) == [3 * SAMPLES] * 2


def test_constants_are_cut_at_compile_time() -> None:
    table = np.arange(TOKENS * WIDTH, dtype="float64").reshape(1, TOKENS, WIDTH)

    def build(bb, x):
        positions = relax.const(table, "float64")
        return first(bb, bb.emit(op.exp(bb.emit(op.add(bb.emit(op.exp(x)), positions)))))

    after = check_pass(DropUnreadRows(), main_of(build, {"x": MLP["x"]}))
    assert operators(after) == [
        "exp",
        "reshape",
        "strided_slice",
        "reshape",
        "add",
        "exp",
        "reshape",
    ]


@pytest.mark.parametrize(
    "build",
    [
        lambda bb, x, w, b, v: mlp(bb, x, w, b, v),
        lambda bb, x, w, b, v: bb.emit(op.strided_slice(mlp(bb, x, w, b, v), [1], [0], [4])),
        lambda bb, x, w, b, v: first(bb, bb.emit(op.nn.softmax(mlp(bb, x, w, b, v), 1))),
        lambda bb, x, w, b, v: first(bb, bb.emit(op.matmul(x, w)), 2),
        lambda bb, x, w, b, v: (y := bb.emit(op.matmul(x, w)), first(bb, y)),
        lambda bb, x, w, b, v: (
            y := bb.emit(op.matmul(x, w)),
            first(bb, y),
            first(bb, y, 0),
        )[1:],
    ],
    ids=["no slice", "two thirds", "over rows", "a column", "all returned", "two axes"],
)
def test_left_alone(build) -> None:
    mod = main_of(build, MLP)
    assert DropUnreadRows()(mod).same_as(mod)

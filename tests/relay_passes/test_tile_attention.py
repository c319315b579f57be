"""TileAttention: forward and gradient, for some queries at a time."""

import tvm
from pass_checks import check_pass, main_of
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.operators.attention import TILE, attention
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, static_shape
from pock_tvm.relay_passes.tile_attention import TileAttention

QUERIES, KEYS = 2 * TILE + 6, 5
SHAPES = {"q": (2, QUERIES, 4), "k": (2, 4, KEYS), "v": (2, KEYS, 3), "mask": (1, QUERIES, KEYS)}


def build(bb, q, k, v, mask):
    y = bb.emit(attention(q, k, v, [mask], 0.5))
    return bb.emit(op.sum(bb.emit(y * y)))


def softmaxes(mod: tvm.IRModule) -> list[tuple[int, ...]]:
    bindings = bindings_of(mod["main"])
    return [static_shape(b.var) for b in bindings if is_call_to(b.value, "relax.nn.softmax")]


def test_no_tile_has_more_than_its_queries():
    after = check_pass(TileAttention(), main_of(build, SHAPES))
    assert softmaxes(after) == [(2, TILE, KEYS), (2, TILE, KEYS), (2, 6, KEYS)]


def test_the_gradient_computes_the_probabilities_again():
    steps = [
        DeriveBackward(["q", "k", "v"]),
        relax.transform.EliminateCommonSubexpr(),
        relax.transform.DeadCodeElimination(),
    ]
    mod = tvm.ir.transform.Sequential(steps)(main_of(build, SHAPES))
    after = check_pass(TileAttention(), mod)
    assert len(softmaxes(after)) == 6


def test_few_queries_are_one_tile_without_slices():
    shapes = {"q": (2, 7, 4), "k": (2, 4, KEYS), "v": (2, KEYS, 3), "mask": (1, 7, KEYS)}
    after = check_pass(TileAttention(), main_of(build, shapes))
    assert softmaxes(after) == [(2, 7, KEYS)]
    bindings = bindings_of(after["main"])
    assert not any(is_call_to(b.value, "relax.strided_slice", "relax.concat") for b in bindings)

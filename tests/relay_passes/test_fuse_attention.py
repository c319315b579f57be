"""FuseAttention: one operator of the same values, whatever masks there are; no other softmax."""

import functools

import numpy as np
import pytest
import tvm
from pass_checks import main_of, operators, run
from tvm import relax
from tvm.relax import op

from pock_tvm.frontend import load_model
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.fuse_attention import FuseAttention, attention_places
from pock_tvm.relay_passes.operators.attention import TILE

QUERIES, KEYS = TILE + 6, 5
SHAPES = {"q": (2, 3, QUERIES, 4), "k": (2, 3, 4, KEYS), "v": (2, 3, KEYS, 6)}
CAUSAL = np.tril(np.ones((QUERIES, KEYS)), KEYS - QUERIES).astype(bool)
CAUSAL[:, 0] = True  # a query without a key has no softmax
PADDING = np.array([[True] * 5, [True, True, False, False, False]])[:, None, None]


def number(value):
    return relax.const(np.float64(value), "float64")


def masked(bb, x, allowed, lowest=-np.inf):
    return bb.emit(op.where(relax.const(allowed), x, number(lowest)))


def forbidden(bb, x, allowed):
    return bb.emit(op.where(relax.const(~allowed), number(-np.inf), x))


def added(bb, x, allowed, lowest=-1e38):
    return bb.emit(op.add(x, relax.const(np.where(allowed, 0, lowest), "float64")))


def attended(bb, q, k, v, *changes):
    """Write attention out, with changes of the scores in between."""
    scores = bb.emit(op.matmul(q, k))
    for change in changes:
        scores = change(bb, scores)
    return bb.emit(op.matmul(bb.emit(op.nn.softmax(scores, -1)), v))


def scaled(bb, x):
    return bb.emit(op.multiply(x, number(0.5)))


def divided(bb, x):
    return bb.emit(op.divide(x, number(2)))


FORMS = {
    "bare": (),
    "scaled": (scaled,),
    "divided twice": (divided, divided),
    "causal": (scaled, functools.partial(masked, allowed=CAUSAL)),
    "causal, the other way round": (functools.partial(forbidden, allowed=CAUSAL),),
    "padding, finite": (scaled, functools.partial(masked, allowed=PADDING, lowest=-3e38)),
    "bias before a mask": (
        scaled,
        functools.partial(added, allowed=PADDING),
        functools.partial(masked, allowed=CAUSAL),
    ),
}
OTHERS = {
    "scaled after the mask": (functools.partial(added, allowed=PADDING), scaled),
    "a mask that is finite": (functools.partial(masked, allowed=CAUSAL, lowest=-5.0),),
    "something between": (lambda bb, x: bb.emit(op.tanh(x)),),
}


def fused(mod, learning=()):
    before = mod.script()
    after = FuseAttention(learning)(mod)
    assert mod.script() == before
    relax.analysis.well_formed(after)
    return after


@pytest.mark.parametrize("form", FORMS)
def test_attention_of_every_form_is_one_operator(form):
    mod = main_of(lambda bb, q, k, v: attended(bb, q, k, v, *FORMS[form]), SHAPES)
    one = fused(mod)
    assert attention_places(mod) == (0, 1)
    assert attention_places(one) == (1, 0)
    assert "nn.softmax" not in operators(one)
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=shape) for shape in SHAPES.values()]
    (wanted,), (got,) = run(mod, *arrays), run(one, *arrays)
    # sums over 4 and 5 numbers in float64
    np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("form", OTHERS)
def test_what_is_of_another_form_stays(form):
    mod = main_of(lambda bb, q, k, v: attended(bb, q, k, v, *OTHERS[form]), SHAPES)
    tvm.ir.assert_structural_equal(fused(mod), mod)
    assert attention_places(mod) == (0, 1)


def test_scores_that_something_else_reads_stay():
    def build(bb, q, k, v):
        scores = bb.emit(op.matmul(q, k))
        return bb.emit(op.matmul(bb.emit(op.nn.softmax(scores, -1)), v)), scores

    mod = main_of(build, SHAPES)
    tvm.ir.assert_structural_equal(fused(mod), mod)


def test_a_bias_that_may_learn_stays():
    shapes = {**SHAPES, "table": (3, QUERIES, KEYS)}

    def build(bb, q, k, v, table):
        def biased(bb, x):
            return bb.emit(op.add(x, bb.emit(op.multiply(table, number(2)))))

        return attended(bb, q, k, v, biased)

    mod = main_of(build, shapes)
    assert attention_places(fused(mod, ["table"])) == (0, 1)
    assert attention_places(fused(mod)) == (1, 0)


@pytest.mark.parametrize("name", ["distilbert", "gpt2", "llama_small", "vit_tiny"])
def test_the_attention_of_every_importer_is_recognized(name):
    model = load_model(f"zoo:{name}@small", 2)
    known = {n: model.parameters[n] for n in model.buffers}
    learnable = [n for n in model.parameters if n not in known]
    plain = pipeline.canonicalize("frozen", known)(model.mod)
    tiled = pipeline.canonicalize("frozen", known, attention=learnable)(model.mod)
    tiles, written_out = attention_places(tiled)
    assert (tiles, written_out) == (attention_places(plain)[1], 0)
    assert tiles > 0

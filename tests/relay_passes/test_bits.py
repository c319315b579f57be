"""Masks as words: every bit at its place, for whole words and for a ragged last one."""

import numpy as np
import pytest
from pass_checks import operators, run
from tvm import relax

from pock_tvm.relay_passes.operators.bits import WORD, pack_bits, unpack_bits, words_shape

SHAPES = [(WORD, 3), (1, 5), (2, 4, 8, 17), (3, 7, 7, 16), (33, 1), (4,)]


def module(shape):
    """Return ``main(mask) -> words, mask again``."""
    mask = relax.Var("mask", relax.TensorType(shape, "bool"))
    bb = relax.BlockBuilder()
    with bb.function("main", [mask]):
        with bb.dataflow():
            words = bb.emit_output(pack_bits(mask))
            again = bb.emit_output(unpack_bits(words, shape))
        bb.emit_func_output(relax.Tuple([words, again]))
    return bb.get()


@pytest.mark.parametrize("shape", SHAPES)
def test_words_hold_the_mask(shape):
    mask = np.random.default_rng(0).random(shape) < 0.5
    mod = module(shape)
    assert operators(mod) == ["pock.pack_bits", "pock.unpack_bits"]
    words, again = run(mod, mask)
    rows = np.zeros((words_shape(shape)[0] * WORD, shape[-1]), bool)
    rows[: mask.size // shape[-1]] = mask.reshape(-1, shape[-1])
    wanted = np.packbits(rows.reshape(-1, WORD, shape[-1]), axis=1, bitorder="little")
    wanted = wanted.transpose(0, 2, 1).copy().view("<u4")[..., 0]
    np.testing.assert_array_equal(words, wanted)
    np.testing.assert_array_equal(again, mask)

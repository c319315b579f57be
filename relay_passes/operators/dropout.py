"""``pock.dropout(x, keys)``: zero each element with probability p, scale the others.

    y[i] = x[i] / (1 - p) if word(keys[stream], i) ≥ p · 2³² else 0
    keys = pock.dropout_keys(counter)                      # one per stream: a place that drops out

``counter`` is the int64 tensor (seed, draw); ``draw`` goes up by one with every batch. With
``shared`` axes an element stands for all of its row: whole channels are dropped.

The words are counter-based: they depend on nothing but seed, draw, stream and index, so that the
backward pass draws them again instead of keeping a mask, any thread can compute any element, and
every target gets the same masks. They come from Philox (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011, doi:10.1145/2063384.2063405): Philox-4x32-10 makes the key of a stream,
two words, and Philox-2x32-10 under that key the word of an index. Both multiply 32-bit numbers into
64 bits, which never overflows: TVM promises LLVM that integers do not wrap.

Before ``SeedDropout`` the operator has no keys yet; a model is imported with it in this form.
"""

import math
from collections.abc import Sequence
from typing import Any

from tvm import relax, te, tirx

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator

ROUNDS = 10
MULTIPLIER_2X32 = 0xD256D193
MULTIPLIERS_4X32 = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
"""What is added to the two words of the key between rounds."""

_LOW = 0xFFFFFFFF


def _u64(value: int) -> Any:
    return tirx.const(value, "uint64")


def _halves(product: Any) -> tuple[Any, Any]:
    return product >> _u64(32), product & _u64(_LOW)


def _round_key(key: Any, index: int, word: int) -> Any:
    """Return ``key + index · Weyl`` modulo 2³²."""
    return (key + _u64(index * WEYL[word] & _LOW)) & _u64(_LOW)


def philox_4x32(counter: Sequence[Any], key: Sequence[Any]) -> list[Any]:
    """Return four random words; all words are uint64 expressions below 2³²."""
    x0, x1, x2, x3 = counter
    for r in range(ROUNDS):
        high0, low0 = _halves(_u64(MULTIPLIERS_4X32[0]) * x0)
        high1, low1 = _halves(_u64(MULTIPLIERS_4X32[1]) * x2)
        x0, x1 = high1 ^ x1 ^ _round_key(key[0], r, 0), low1
        x2, x3 = high0 ^ x3 ^ _round_key(key[1], r, 1), low0
    return [x0, x1, x2, x3]


def philox_2x32(counter: Sequence[Any], key: Any) -> list[Any]:
    """Return two random words; all words are uint64 expressions below 2³².

    TVM sees a tree, in which a word that is read twice stands twice: it grows as the Fibonacci
    numbers do, to a hundred leaves. ``Let`` would name them, but its analyzer knows no scopes.
    """
    x0, x1 = counter
    for r in range(ROUNDS):
        high, low = _halves(_u64(MULTIPLIER_2X32) * x0)
        x0, x1 = high ^ _round_key(key, r, 0) ^ x1, low
    return [x0, x1]


def te_dropout_keys(counter: te.Tensor, streams: int) -> te.Tensor:
    """Return [streams, 2] words: the key of each stream, and what its indices start from."""
    seed, draw = (_halves(counter(j).astype("uint64")) for j in (0, 1))

    def word(stream: Any, k: Any) -> Any:
        start = (draw[1], draw[0], stream.astype("uint64"), _u64(0))
        words = philox_4x32(start, (seed[1], seed[0]))
        return tirx.Select(k == 0, words[0], words[1]).astype("int64")

    return te.compute((streams, 2), word, name="dropout_keys")


def te_dropout(
    x: te.Tensor, keys: te.Tensor, p: float, stream: int, shared: Sequence[int]
) -> te.Tensor:
    """Return x with elements dropped and the others scaled."""
    own = [axis for axis in range(len(x.shape)) if axis not in shared]
    assert math.prod(int(x.shape[axis]) for axis in own) < 1 << 32, "an index is one word"
    scale = tirx.const(1 / (1 - p) if p < 1 else 0.0, x.dtype)

    def element(*i: Any) -> Any:
        position: Any = tirx.const(0, "int64")
        for axis in own:
            position = position * x.shape[axis] + i[axis]
        # All are below 2³² already; said so, a multiplication of 32-bit numbers is one.
        key, start, index = (
            value.astype("uint64") & _u64(_LOW)
            for value in (keys(stream, 0), keys(stream, 1), position)
        )
        word, _ = philox_2x32((start, index), key)
        kept = word >= _u64(min(round(p * 2**32), 2**32))
        return tirx.Select(kept, x(*i) * scale, tirx.const(0.0, x.dtype))

    return te.compute(x.shape, element, name="dropout")


def _infer_keys(call: relax.Call) -> relax.TensorType:
    """Two words per stream."""
    return relax.TensorType((int(call.attrs["streams"]), 2), "int64")


def _legalize_keys(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    streams = int(call.attrs["streams"])
    return bb.call_te(
        lambda counter: te_dropout_keys(counter, streams),
        call.args[0],
        primfunc_name_hint="dropout_keys",
    )


def _infer(call: relax.Call) -> relax.TensorType:
    """The type of x."""
    return call.args[0].ty


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x, keys = call.args  # SeedDropout has added the keys
    p, stream = float(call.attrs["p"]), int(call.attrs["stream"])
    shared = [int(axis) for axis in call.attrs["shared"]]
    return bb.call_te(
        lambda a, k: te_dropout(a, k, p, stream, shared),
        x,
        keys,
        primfunc_name_hint="dropout",
    )


DROPOUT_KEYS = register_operator(
    "pock.dropout_keys", infer_type=_infer_keys, legalize=_legalize_keys
)
DROPOUT = register_operator("pock.dropout", infer_type=_infer, legalize=_legalize)


def dropout(
    x: relax.Expr,
    *keys: relax.Expr,
    p: float,
    stream: int,
    shared: Sequence[int] = (),
    alpha: bool = False,
) -> relax.Call:
    """Build ``pock.dropout``, with the keys where they are known already.

    With ``alpha``, which ``SeedDropout`` writes out, it is an alpha dropout.
    """
    options = {"p": p, "stream": stream, "shared": list(shared), "alpha": alpha}
    return call_operator(DROPOUT, x, *keys, **options)


def dropout_keys(counter: relax.Expr, streams: int) -> relax.Call:
    """Build ``pock.dropout_keys``."""
    return call_operator(DROPOUT_KEYS, counter, streams=streams)

"""Masks of one bit per element.

    words[r, c] = Σ over j < 32 of (mask[32 r + j, c] << j)        # pack_bits, uint32
    mask[p, c] = (words[p // 32, c] >> (p mod 32)) & 1             # unpack_bits

``c`` is the last axis of the mask and ``p`` counts all others, in order. A word thus holds
neighbouring rows of one column: a vector of words has the lanes of the floats that the mask selects
from, and no bit is moved between lanes.
"""

from collections.abc import Sequence
from functools import partial
from math import ceil, prod
from typing import Any

from tvm import relax, te, tirx

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator

WORD = 32
"""Bits of a word."""

_BROADCAST, _FOLD = 1, 3
"""What ``FuseOps`` may compute inside the loops that read it, and what may compute its operand."""


def words_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return the shape of the words that hold a mask of ``shape``, of rank 1 or more."""
    return ceil(prod(shape[:-1]) / WORD), shape[-1]


def te_pack_bits(mask: te.Tensor) -> te.Tensor:
    """words[r, c] = Σⱼ mask[32 r + j, c] << j, where rows beyond the last count as false."""
    shape = [int(n) for n in mask.shape]
    rows = prod(shape[:-1])
    j = te.reduce_axis((0, WORD), "j")
    one, zero = (tirx.const(n, "uint32") for n in (1, 0))

    def word(r: Any, c: Any) -> Any:
        row = r * WORD + j
        is_set = mask(*_unravel(row, shape[:-1]), c)
        bit = tirx.Select(is_set, tirx.shift_left(one, tirx.Cast("uint32", j)), zero)
        if rows % WORD:
            bit = tirx.if_then_else(row < rows, bit, zero)
        return te.sum(bit, axis=j)  # of different bits: their union, which never carries

    return te.compute(words_shape(shape), word, name="pack_bits")


def te_unpack_bits(words: te.Tensor, shape: Sequence[int]) -> te.Tensor:
    """mask[p, c] = (words[p // 32, c] >> (p mod 32)) & 1."""
    one = tirx.const(1, "uint32")

    def bit(*indices: Any) -> Any:
        *outer, c = indices
        row: Any = 0
        for index, extent in zip(outer, shape[:-1], strict=True):
            row = row * extent + index
        word = words[tirx.indexdiv(row, WORD), c]
        place = tirx.Cast("uint32", tirx.indexmod(row, WORD))
        return tirx.bitwise_and(tirx.shift_right(word, place), one) != tirx.const(0, "uint32")

    return te.compute(tuple(shape), bit, name="unpack_bits")


def _unravel(row: Any, shape: Sequence[int]) -> list[Any]:
    indices = []
    for extent in reversed(shape[1:]):
        indices.append(tirx.indexmod(row, extent))
        row = tirx.indexdiv(row, extent)
    return [row, *reversed(indices)] if shape else []


def _infer_pack(call: relax.Call) -> relax.TensorType:
    """Words of a mask."""
    return relax.TensorType(words_shape([int(n) for n in call.args[0].ty.shape]), "uint32")


def _infer_unpack(call: relax.Call) -> relax.TensorType:
    """The mask that words hold."""
    return relax.TensorType([int(n) for n in call.attrs["shape"]], "bool")


def _legalize_pack(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(
        te_pack_bits,
        call.args[0],
        primfunc_name_hint="pack_bits",
        primfunc_attrs={"op_pattern": _FOLD},
    )


def _legalize_unpack(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    shape = [int(n) for n in call.attrs["shape"]]
    return bb.call_te(
        partial(te_unpack_bits, shape=shape),
        call.args[0],
        primfunc_name_hint="unpack_bits",
        primfunc_attrs={"op_pattern": _BROADCAST},
    )


PACK = register_operator("pock.pack_bits", infer_type=_infer_pack, legalize=_legalize_pack)
UNPACK = register_operator("pock.unpack_bits", infer_type=_infer_unpack, legalize=_legalize_unpack)


def pack_bits(mask: relax.Expr) -> relax.Call:
    """Build ``pock.pack_bits``: bool mask of rank 1 or more -> its words."""
    return call_operator(PACK, mask)


def unpack_bits(words: relax.Expr, shape: Sequence[int]) -> relax.Call:
    """Build ``pock.unpack_bits``: words -> the bool mask of ``shape``."""
    return call_operator(UNPACK, words, shape=list(shape))

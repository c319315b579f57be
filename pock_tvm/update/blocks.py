"""The blocks of a model: what it repeats, read off its parameters' names.

A block is the run of parameters that share a name up to a number: ``layer.3.``, ``features.12.``,
``transformer.h.5.``. Where stages hold blocks (``stages.1.layers.0.``, ``blocks.2.1.``) the inner
number counts, so that a block is what a paper calls one.
"""

import re
from collections.abc import Sequence

from pock_tvm.errors import UnknownNameError

Blocks = str | tuple[int, ...]
"""``last N``, ``A-B`` (both included), or positions from 0."""

_OUTER = re.compile(r"^(.*?\b\d+)\.")
_NESTED = re.compile(
    r"^((?:.*?\.)?(?:stages?|blocks?|layers?)\.\d+(?:\.(?:layers?|blocks?))?\.\d+)\..+\."
)
_LAST = re.compile(r"^last[ :]+(\d+)$")
_RANGE = re.compile(r"^(\d+)\s*-\s*(\d+)$")


def block_of(name: str) -> str | None:
    """Return the prefix of the block that a parameter stands in, None outside of all."""
    match = _NESTED.match(name) or _OUTER.match(name)
    return match.group(1) if match else None


def blocks_of(names: Sequence[str]) -> list[str]:
    """Return the blocks in the order of the model.

    A numbered layer by itself (``classifier.1.weight``) is no block beside others that hold
    modules; where all are such layers, each counts.
    """
    found = [(name, block) for name in names if (block := block_of(name)) is not None]
    holds = {block for name, block in found if "." in name.removeprefix(f"{block}.")}
    return list(dict.fromkeys(block for _, block in found if block in holds or not holds))


def within_blocks(asked: Blocks, names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names inside the blocks asked for; ``last N`` takes what follows them along.

    Raises:
        UnknownNameError: the model has no such blocks, or the text is none of the three forms.
    """
    blocks = blocks_of(names)
    if isinstance(asked, str) and (match := _LAST.match(asked)):
        count = int(match.group(1))
        if not 1 <= count <= len(blocks):
            raise UnknownNameError(
                f"{where}: the last {count} of {len(blocks)} blocks do not exist"
            )
        first = next(i for i, n in enumerate(names) if block_of(n) == blocks[-count])
        return tuple(names[first:])
    positions = _positions(asked, where)
    missing = [i for i in positions if not 0 <= i < len(blocks)]
    if missing:
        raise UnknownNameError(
            f"{where}: no block {missing[0]}; the model has blocks 0 to {len(blocks) - 1}"
            if blocks
            else f"{where}: the model has no blocks; leave `blocks` out"
        )
    chosen = {blocks[i] for i in positions}
    return tuple(name for name in names if block_of(name) in chosen)


def _positions(asked: Blocks, where: str) -> Sequence[int]:
    if not isinstance(asked, str):
        return asked
    match = _RANGE.match(asked)
    if not match or int(match.group(1)) > int(match.group(2)):
        raise UnknownNameError(
            f"{where}: blocks {asked!r} is not understood; write 'last 4', '2-5' or [2, 3]"
        )
    return range(int(match.group(1)), int(match.group(2)) + 1)

"""The tensors of a planned step: when each one lives, where it lies, and what it is kept for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["input", "output", "residual", "transient"]


@dataclass(frozen=True)
class Lifetime:
    """One tensor of the arena."""

    name: str
    kernel: str
    """What writes it first; empty for an input."""
    kind: Kind
    """A residual is made before the loss and read after it; a transient is not."""
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    offset: int
    start: int
    """First call that it must survive."""
    end: int
    """Last call that it must survive."""


def lifetimes(plan: Mapping[str, Any], outputs: Sequence[str]) -> list[Lifetime]:
    """Read the arena tensors of one entry point.

    Args:
        plan: one value of ``plan.json``.
        outputs: the tensors that a caller reads.
    """
    writer: dict[str, int] = {}
    for time, call in enumerate(plan["calls"]):
        for name in call["writes"]:
            writer.setdefault(name, time)
    turn = writer.get("loss", len(plan["calls"]))
    found = []
    for tensor in plan["tensors"]:
        if tensor["region"] != "arena":
            continue
        name, (start, end) = tensor["name"], tensor["live"]
        made = writer.get(name)
        found.append(
            Lifetime(
                name=name,
                kernel="" if made is None else str(plan["calls"][made]["kernel"]),
                kind=_kind(tensor, made, turn, outputs),
                shape=tuple(tensor["shape"]),
                dtype=str(tensor["dtype"]),
                nbytes=int(tensor["bytes"]),
                offset=int(tensor["offset"]),
                start=int(start),
                end=int(end),
            )
        )
    return found


def _kind(tensor: Mapping[str, Any], made: int | None, turn: int, outputs: Sequence[str]) -> Kind:
    if made is None:
        return "input"
    if tensor["name"] in outputs:
        return "output"
    return "residual" if made < turn < tensor["live"][1] else "transient"


def live_bytes(tensors: Sequence[Lifetime], calls: int) -> list[int]:
    """Return the bytes of the arena that are in use during each call.

    A tensor that is written over another counts once.
    """
    live = []
    for time in range(calls):
        spans = sorted((t.offset, t.offset + t.nbytes) for t in tensors if t.start <= time <= t.end)
        total = end = 0
        for low, high in spans:
            total += max(0, high - max(low, end))
            end = max(end, high)
        live.append(total)
    return live


def at_peak(tensors: Sequence[Lifetime], calls: int) -> tuple[int, list[Lifetime]]:
    """Return the call at which most bytes are in use, and what lives then, largest first."""
    live = live_bytes(tensors, calls)
    time = max(range(calls), key=live.__getitem__)
    there = [t for t in tensors if t.start <= time <= t.end]
    return time, sorted(there, key=lambda t: (-t.nbytes, t.name))


def peak_bytes_by_kind(tensors: Sequence[Lifetime], calls: int) -> dict[Kind, int]:
    """Return what the bytes in use at the peak are for; what is written over counts once."""
    _, there = at_peak(tensors, calls)
    total: dict[Kind, int] = {}
    seen: set[int] = set()
    for tensor in there:
        if tensor.offset not in seen:
            seen.add(tensor.offset)
            total[tensor.kind] = total.get(tensor.kind, 0) + tensor.nbytes
    return total

"""A step as the planner sees it: kernel calls in order, and the tensors between them.

Everything here is plain data, without TVM, so that ordering and placement can be read and tested on
their own. A reshape is a view: it has the tensor of what it views.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

ALIGNMENT = 64
"""Every tensor starts at a multiple of this many bytes: a cache line, and the widest vector."""

Region = Literal["frozen", "state", "arena"]


def align(size: int, to: int = ALIGNMENT) -> int:
    """Round ``size`` up to a multiple of ``to``."""
    return -(-size // to) * to


@dataclass(frozen=True)
class Tensor:
    """A block of memory with a shape. Identity is the name."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    region: Region = "arena"

    @cached_property
    def bytes(self) -> int:
        """Size without padding; a bool takes a byte."""
        bits = int("".join(c for c in self.dtype if c.isdigit()) or 8)
        return math.prod(self.shape) * max(1, bits // 8)


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel: which function, and the tensors in the order of its arguments."""

    kernel: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    overwrites: bool = False
    """The kernel writes to one of the tensors that it reads, through the same argument."""
    may_overwrite: tuple[str, ...] = ()
    """Tensors among ``reads`` whose memory the only tensor in ``writes`` may take over."""
    shifts: tuple[int, ...] = ()
    """By how many bytes behind the start of its tensor each of ``reads``, then ``writes``, starts;
    empty where all start with their tensors."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the tensors, inputs first."""
        return self.reads if self.overwrites else self.reads + self.writes

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Each of ``reads``, then ``writes``, with its shift."""
        names = self.reads + self.writes
        return tuple(zip(names, self.shifts or (0,) * len(names), strict=True))

    def moved(self, parts: Mapping[str, tuple[str, int]]) -> "KernelCall":
        """Return the same call with the tensors listed being parts of others."""
        if not any(name in parts for name in self.reads + self.writes):
            return self
        names, shifts = [], []
        for name, shift in self.places:
            whole, start = parts.get(name, (name, 0))
            names.append(whole)
            shifts.append(start + shift)
        count = len(self.reads)
        return replace(
            self, reads=tuple(names[:count]), writes=tuple(names[count:]), shifts=tuple(shifts)
        )

    def renamed(self, names: Mapping[str, str]) -> "KernelCall":
        """Return the same call with tensors under other names; those not listed keep theirs."""
        reads, writes, may_overwrite = (
            tuple(names.get(n, n) for n in group)
            for group in (self.reads, self.writes, self.may_overwrite)
        )
        return replace(self, reads=reads, writes=writes, may_overwrite=may_overwrite)


@dataclass(frozen=True)
class Step:
    """One entry point.

    Attributes:
        name: ``train_step``, ``evaluate`` or ``predict``.
        tensors: all tensors by name; those that a caller sees have their public names.
        calls: the kernels in the order in which they run.
        inputs: arena tensors that the caller fills before the call.
        outputs: arena tensors that the caller reads after it.
    """

    name: str
    tensors: Mapping[str, Tensor]
    calls: tuple[KernelCall, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def with_calls(self, calls: Iterable[KernelCall]) -> "Step":
        """Return the same step with its calls in another order."""
        return replace(self, calls=tuple(calls))

    def renamed(self, names: Mapping[str, str]) -> "Step":
        """Return the same step with tensors under other names."""
        new = {n: names.get(n, n) for n in self.tensors}
        tensors = {new[n]: replace(t, name=new[n]) for n, t in self.tensors.items()}
        calls = (c.renamed(names) for c in self.calls)
        inputs, outputs = (tuple(new[n] for n in ns) for ns in (self.inputs, self.outputs))
        return replace(self, tensors=tensors, calls=tuple(calls), inputs=inputs, outputs=outputs)

    def in_arena(self, name: str) -> bool:
        """Tell whether a tensor has to be placed by the planner."""
        return self.tensors[name].region == "arena"


def live_intervals(step: Step) -> dict[str, tuple[int, int]]:
    """Return for each arena tensor the first and the last call (inclusive) that it must survive.

    Inputs live from the first call, outputs to the last. A number among them, such as the loss,
    lives all the time: an input that dies early in one entry point may live on in another, and both
    have one place in all of them.
    """
    last_call = max(len(step.calls) - 1, 0)
    intervals: dict[str, tuple[int, int]] = dict.fromkeys(step.inputs, (0, 0))
    for time, call in enumerate(step.calls):
        for name in call.arguments:
            if step.in_arena(name):
                start, _ = intervals.get(name, (time, time))
                intervals[name] = (start, time)
    for name in step.outputs:
        start, _ = intervals.get(name, (0, 0))
        is_number = not step.tensors[name].shape
        intervals[name] = (0 if is_number else start, last_call)
    return intervals


@dataclass(frozen=True)
class Block:
    """Bytes of the arena, for one tensor or for several, each written over the one before."""

    tensors: tuple[str, ...]
    size: int
    """Aligned."""
    start: int
    """First call that it must survive."""
    end: int
    """Last call that it must survive."""

    def meets(self, other: "Block") -> bool:
        """Tell whether both are live during some call."""
        return self.start <= other.end and other.start <= self.end


def blocks(step: Step, intervals: Mapping[str, tuple[int, int]] | None = None) -> list[Block]:
    """Return the blocks that the arena tensors of a step need.

    A tensor takes over the block of another where the kernel that makes it allows that and is the
    last to read the other. Inputs and outputs have blocks of their own: their places are public.
    """
    intervals = intervals or live_intervals(step)
    public = {*step.inputs, *step.outputs}
    chain: dict[str, tuple[str, ...]] = {name: (name,) for name in intervals}
    for time, call in enumerate(step.calls):
        if not call.may_overwrite:
            continue
        (new,) = call.writes
        for old in call.may_overwrite:
            if (
                not {old, new} & public
                and step.in_arena(old)
                and step.in_arena(new)
                and intervals[old][1] == time == intervals[new][0]
                and align(step.tensors[old].bytes) == align(step.tensors[new].bytes)
            ):
                chain[new] = (*chain.pop(old), new)
                break
    return [
        Block(
            names,
            align(step.tensors[name].bytes),
            intervals[names[0]][0],
            intervals[name][1],
        )
        for name, names in chain.items()
    ]


def live_bytes(step: Step, intervals: Mapping[str, tuple[int, int]] | None = None) -> list[int]:
    """Return the aligned bytes that are live during each call; ``intervals`` where known."""
    change = [0] * (len(step.calls) + 2)
    for block in blocks(step, intervals):
        change[block.start] += block.size
        change[block.end + 1] -= block.size
    total, live = 0, []
    for time in range(max(len(step.calls), 1)):
        total += change[time]
        live.append(total)
    return live


def peak_live_bytes(step: Step) -> int:
    """Return the largest live set: no arena for this order of calls can be smaller."""
    return max(live_bytes(step))

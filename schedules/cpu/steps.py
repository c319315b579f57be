"""The steps of a kernel once what is cheap to recompute is inlined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.ir import TensorLoad

from pock_tvm.schedules.cpu.kernels import resolve
from pock_tvm.schedules.cpu.stages import Stage, calls, extent, is_parameter, loads, walk

_FOLDS = (tirx.Add, tirx.Max, tirx.Min, tirx.Mul)


@dataclass(frozen=True)
class Step:
    """A stage to be computed: ``value`` per point, folded over the reduced axes if it has any."""

    stage: Stage
    value: Any
    fold: Callable[[Any, Any], Any] | None = None

    @property
    def buffer(self) -> Any:
        """Return what the step writes."""
        return self.stage.output

    @property
    def dtype(self) -> str:
        """Return the element type of the result."""
        return str(self.stage.output.dtype)

    @property
    def identity(self) -> Any:
        """Return where the fold starts."""
        return self.stage.block.init.value

    @property
    def shape(self) -> list[int]:
        """Return the extents of the spatial axes."""
        return [extent(v) for v in self.stage.spatial]

    def reads(self, others: Sequence["Step"]) -> list["Step"]:
        """Return which of ``others`` the value loads from."""
        sources = [load.source for load in loads(self.value)]
        return [o for o in others if any(s.same_as(o.buffer) for s in sources)]


def read_steps(func: tirx.PrimFunc, nests: Sequence[Stage]) -> list[Step] | None:
    """Inline what is cheap; None where a stage is neither injective nor a plain fold."""
    if not nests or not all(s.is_injective or _fold(s) for s in nests):
        return None
    inlined = [s for s in nests if s.is_injective and _recompute(s, nests, func)]
    outputs = [s for s in nests if s.is_injective and is_parameter(func, s.output)]
    steps = []
    for stage in nests:
        if stage in inlined:
            continue
        found = _fold(stage) if stage.is_reduction else None
        value = found[1] if found else stage.block.body.value
        # An output computed from another one reads inputs alone: they may share their memory.
        repeated = [s for s in outputs if stage.is_injective and _shape(s) == _shape(stage)]
        value = resolve(value, [*inlined, *repeated])
        steps.append(Step(stage, value, found[0] if found else None))
    return steps


def _shape(stage: Stage) -> list[int]:
    return [extent(v) for v in stage.spatial]


def _fold(stage: Stage) -> tuple[Any, Any] | None:
    """Match ``out = fold(out, element)``."""
    if not stage.is_reduction:
        return None
    value = stage.block.body.value
    if not isinstance(value, _FOLDS):
        return None
    own = value.a
    if not isinstance(own, TensorLoad) or not own.source.same_as(stage.output):
        return None
    return type(value), value.b


def _recompute(stage: Stage, nests: Sequence[Stage], func: tirx.PrimFunc) -> bool:
    """Tell whether to repeat an expression at its uses instead of storing it."""
    if is_parameter(func, stage.output):
        return False
    users = [
        (s, load)
        for s in nests
        for load in loads(s.block.body.value)
        if load.source.same_as(stage.output)
    ]
    if not _is_costly(stage.block.body.value):
        return True
    spreads = any(s.points > stage.points for s, _ in users)
    return not spreads and len(users) == 1


def _is_costly(value: Any) -> bool:
    found: list[Any] = []

    def keep(node: Any) -> None:
        found.append(node)

    walk(value, tirx.Div, keep)
    return bool(found) or bool(calls(value))

"""Loop steps that the rules over schedule primitives share."""

from typing import Any

from tvm import DataType, s_tir, tirx

from pock_tvm.schedules.cpu.peel_tails import LANES
from pock_tvm.schedules.cpu.stages import Stage, loads
from pock_tvm.targets import TargetSpec

PARALLEL_POINTS = 16 * 1024
"""Below this many points a kernel stays on one thread: waking another costs about as much."""


def lanes_of(stage: Stage, spec: TargetSpec) -> int:
    """Return the elements of one vector step: a register of the widest type, at least one."""
    types = [stage.output.dtype, *(load.source.dtype for load in loads(stage.block.body))]
    return max(1, spec.vector_bits // max(8, *(DataType(str(t)).bits for t in types)))


def vectorize(sch: s_tir.Schedule, loop: Any, lanes: int) -> None:
    """Vectorise a loop; where ``lanes`` leaves a rest, `peel_tails` does it at the end."""
    if int(sch.get(loop).extent) % lanes:
        sch.annotate(loop, LANES, lanes)
    else:
        sch.vectorize(sch.split(loop, [None, lanes])[1])


def is_serial_nest(sch: s_tir.Schedule, stage: Stage) -> bool:
    """Tell whether the stage's loops are plain: one per axis, one inside the other."""
    nest = sch.get_loops(stage.rv)
    return len(nest) == len(stage.block.iter_vars) and all(
        sch.get(loop).kind == tirx.ForKind.SERIAL
        and isinstance(sch.get(loop).extent, tirx.IntImm)
        and not isinstance(sch.get(loop).body, tirx.SeqStmt)
        for loop in nest
    )


def axis_loops(sch: s_tir.Schedule, stage: Stage) -> tuple[list[Any], list[Any]]:
    """Return the loops over the spatial and over the reduced axes of a plain nest."""
    nest = list(zip(stage.block.iter_vars, sch.get_loops(stage.rv), strict=True))
    spatial = [loop for axis, loop in nest if axis.iter_type == tirx.IterVar.DataPar]
    return spatial, [loop for axis, loop in nest if axis.iter_type == tirx.IterVar.CommReduce]

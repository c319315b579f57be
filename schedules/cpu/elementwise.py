"""Kernels whose outputs are one expression per element: arithmetic, broadcasts, copies, gathers.

for p in parallel(…):            # one chunk of rows, or of the whole where all is contiguous
    for o, v in …, vectorized:   # the expressions of all inlined stages
        out[…] = …
"""

from typing import Any

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.stages import Stage, collapsible, is_parameter, stages
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS, is_serial_nest, lanes_of, vectorize
from pock_tvm.targets import TargetSpec


def elementwise(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule a kernel in which every stage is injective."""
    sch = s_tir.Schedule(func)
    nests = stages(sch)
    if not nests or not all(s.is_injective and is_serial_nest(sch, s) for s in nests):
        return None
    inline_injective(sch, func)
    for stage in stages(sch):
        schedule_injective(sch, stage, spec)
    return sch


def inline_injective(sch: s_tir.Schedule, func: tirx.PrimFunc) -> None:
    """Replace every injective stage that only this kernel sees by its expression."""
    for stage in stages(sch):
        if stage.is_injective and not is_parameter(func, stage.output):
            sch.compute_inline(stage.rv)


def schedule_injective(sch: s_tir.Schedule, stage: Stage, spec: TargetSpec) -> None:
    """Fuse, parallelise and vectorise one injective nest."""
    nest = sch.get_loops(stage.rv)
    if not nest:
        return
    lanes, together = lanes_of(stage, spec), collapsible(stage)
    cut = len(nest) - max(1, together)
    inner = sch.fuse(*nest[cut:])
    outer = sch.fuse(*nest[:cut]) if cut else None
    if outer is None:
        outer, inner = _chunks(sch, inner, lanes)
    if together:
        vectorize(sch, inner, lanes)
    if outer is not None and stage.points >= PARALLEL_POINTS:
        sch.parallel(outer)


def _chunks(sch: s_tir.Schedule, loop: Any, lanes: int) -> tuple[Any, Any]:
    """Cut a long contiguous loop into equal chunks of about 4096 elements, whole vectors each."""
    count = int(sch.get(loop).extent)
    if count < PARALLEL_POINTS:
        return None, loop
    chunk = next((c for c in range(4096, 1023, -lanes) if count % c == 0), None)
    if chunk is None:
        return None, loop
    outer, inner = sch.split(loop, [None, chunk])
    return outer, inner

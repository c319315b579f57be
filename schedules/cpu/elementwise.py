"""Kernels whose outputs are one expression per element: arithmetic, broadcasts, copies, gathers.

for p in parallel(…):            # one chunk of rows, or of the whole where all is contiguous
    for o, v in …, vectorized:   # the expressions of all inlined stages
        out[…] = …
"""

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.stages import Stage, collapsible, is_parameter, stages
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS, is_serial_nest, lanes_of, vectorize
from pock_tvm.targets import TargetSpec


def elementwise(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule | None:
    """Schedule a kernel of one output in which every stage is injective."""
    sch = s_tir.Schedule(func)
    nests = stages(sch)
    if not nests or not all(s.is_injective and is_serial_nest(sch, s) for s in nests):
        return None
    inline_injective(sch, func)
    outputs = stages(sch)
    if len(outputs) > 1:
        return None
    schedule_injective(sch, outputs[0], spec)
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
    is_parallel = stage.points >= PARALLEL_POINTS
    chunk = _chunk(stage.points, lanes) if together == len(nest) and is_parallel else None
    if chunk:
        outer, inner = sch.split(sch.fuse(*nest), [None, chunk])
    else:
        # A whole that has no even chunks is still shared out by its leading axes.
        cut = len(nest) - max(1, together)
        cut = cut or (len(nest) - 1 if is_parallel else 0)
        inner = sch.fuse(*nest[cut:])
        outer = sch.fuse(*nest[:cut]) if cut else None
    if together:
        vectorize(sch, inner, lanes)
    if outer is not None and is_parallel:
        sch.parallel(outer)


def _chunk(count: int, lanes: int) -> int | None:
    """Return the largest chunk of up to 4096 elements, whole vectors, that divides ``count``."""
    return next((c for c in range(4096, 1023, -lanes) if count % c == 0), None)

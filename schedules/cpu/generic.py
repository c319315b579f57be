"""The last rule: any kernel, correct first.

for s in parallel(fused spatial axes):
    for v in vectorized: out = init
    for r in reduced axes:
        for v in vectorized: out += …
"""

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.elementwise import schedule_injective
from pock_tvm.schedules.cpu.stages import Stage, is_parameter, stages
from pock_tvm.schedules.cpu.vector_loops import PARALLEL_POINTS, axis_loops, is_serial_nest
from pock_tvm.targets import TargetSpec


def generic(func: tirx.PrimFunc, spec: TargetSpec) -> s_tir.Schedule:
    """Schedule each stage by itself; a stage that is no tensor expression stays serial."""
    sch = s_tir.Schedule(func)
    outputs = [s for s in stages(sch) if s.is_tensor_expression and is_parameter(func, s.output)]
    # An optimizer's step writes over what its later outputs read: they need one pass.
    assert len(outputs) <= 1, f"no rule writes {[s.name for s in outputs]} in one pass"
    for stage in stages(sch):
        if not is_serial_nest(sch, stage):
            continue
        if stage.is_injective:
            schedule_injective(sch, stage, spec)
        elif stage.is_reduction:
            _schedule_reduction(sch, stage)
    return sch


def _schedule_reduction(sch: s_tir.Schedule, stage: Stage) -> None:
    """Put the spatial axes outside and run them in parallel."""
    spatial, reduced = axis_loops(sch, stage)
    if not spatial:
        return
    sch.reorder(*spatial, *reduced)
    outer = sch.fuse(*spatial)
    if stage.points >= PARALLEL_POINTS:
        sch.parallel(outer)

"""The last rule: any kernel, correct first; each stage is one launch.

for point in threads over the spatial axes:
    for r in reduced axes, in order: the stage's block

A fold of several values at once, a scatter, a scan: what the stage reads and writes at one point of
its spatial axes is its own, whatever its body does there.
"""

from collections.abc import Sequence
from typing import Any

from tvm import s_tir, tirx

from pock_tvm.schedules.cpu.kernels import index_dtype, read_stages
from pock_tvm.schedules.cpu.nest import loop, unravel
from pock_tvm.schedules.cpu.stages import Stage, extent, product
from pock_tvm.schedules.gpu.threads import launch, thread_nest
from pock_tvm.targets import TargetSpec


def blocks(func: tirx.PrimFunc, spec: TargetSpec) -> list[tirx.PrimFunc]:
    """Return one launch per stage."""
    assert spec.device is not None
    threads = spec.device.group_threads
    return [
        launch(func, f"part{i}", _nest(stage, threads)) for i, stage in enumerate(read_stages(func))
    ]


def _nest(stage: Stage, threads: int) -> Any:
    axes = stage.block.iter_vars
    spatial = [v for v in axes if v.iter_type == tirx.IterVar.DataPar]
    reduced = [v for v in axes if v.iter_type == tirx.IterVar.CommReduce]
    assert len(spatial) + len(reduced) == len(axes), f"{stage.name} has axes of another kind"
    index = index_dtype(stage) if axes else "int64"
    at: dict[Any, Any] = {}

    def over(rest: Sequence[Any]) -> Any:
        if not rest:
            values = [at[v.var] for v in axes]
            return s_tir.SBlockRealize(values, tirx.const(1, "bool"), stage.block)

        def inside(i: Any) -> Any:
            at[rest[0].var] = i
            return over(rest[1:])

        return loop(rest[0].var.name, extent(rest[0]), index, inside)

    def inside(point: Any) -> Any:
        places = zip(
            [v.var for v in spatial], unravel(point, [extent(v) for v in spatial]), strict=True
        )
        at.update(places)
        return over(reduced)

    return thread_nest(product(extent(v) for v in spatial), threads, index, inside)

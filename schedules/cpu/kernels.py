"""Read a kernel's stages as expressions, and give a scheduled kernel its new body."""

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from pock_tvm.schedules.cpu.nest import rewrite
from pock_tvm.schedules.cpu.stages import Stage, is_parameter, loads, stages


def with_body(func: tirx.PrimFunc, body: Any) -> s_tir.Schedule:
    """Return the schedule of ``func`` with another body, which allocates what it needs."""
    root = s_tir.SBlock([], [], [], "root", body)
    predicate = tirx.const(1, "bool")
    return s_tir.Schedule(
        ir.IRModule({"main": func.with_body(s_tir.SBlockRealize([], predicate, root))})
    )


def read_stages(func: tirx.PrimFunc) -> list[Stage]:
    """Return the stages of a kernel that is not to be scheduled in place."""
    return stages(s_tir.Schedule(func))


def index_dtype(stage: Stage) -> str:
    """Return the integer type of the stage's axes."""
    return str(stage.block.iter_vars[0].var.ty.dtype)


def resolve(expr: Any, inlined: Sequence[Stage]) -> Any:
    """Replace every load from a stage in ``inlined`` by the expression that the stage stores."""

    def expand(load: Any) -> Any:
        for stage in inlined:
            if load.source.same_as(stage.output):
                at = {v.var: i for v, i in zip(stage.spatial, load.indices, strict=True)}
                return resolve(rewrite(stage.block.body.value, at), inlined)
        return load

    return tvm_ffi.structural_map(expr, (ir.TensorLoad, expand), order="post")


def at_point(stage: Stage, value: Any, indices: Sequence[Any]) -> Any:
    """Return ``value``, an expression over the stage's spatial axes, at a point."""
    return rewrite(value, {v.var: i for v, i in zip(stage.spatial, indices, strict=True)})


def pointwise_outputs(func: tirx.PrimFunc, anchor: Stage, after: Sequence[Stage]) -> Any:
    """Return (stage, value) of each output as an expression of ``anchor`` at the same point.

    None where a stage after the anchor is no injective expression, has another shape, or reads the
    anchor elsewhere than at its own point.
    """
    shape = [int(v.dom.extent) for v in anchor.spatial]
    outputs = []
    for stage in after:
        if not stage.is_injective:
            return None
        if not is_parameter(func, stage.output):
            continue
        value = resolve(stage.block.body.value, [s for s in after if s.is_injective])
        if [int(v.dom.extent) for v in stage.spatial] != shape:
            return None
        if not _reads_own_point(value, anchor, stage):
            return None
        outputs.append((stage, value))
    return outputs


def pointwise_stores(outputs: Any, indices: Sequence[Any]) -> list[Any]:
    """Return the stores of ``pointwise_outputs`` at one point."""
    return [
        tirx.BufferStore(stage.output, at_point(stage, value, indices), list(indices))
        for stage, value in outputs
    ]


def _reads_own_point(value: Any, anchor: Stage, stage: Stage) -> bool:
    return all(
        all(i.same_as(v.var) for i, v in zip(load.indices, stage.spatial, strict=True))
        for load in loads(value)
        if load.source.same_as(anchor.output)
    )

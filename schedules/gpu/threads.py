"""Loops that become the threads of a launch, and what a launch takes as arguments."""

from collections.abc import Callable
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from pock_tvm.schedules.cpu.nest import Body


def thread_nest(points: int, threads: int, index: str, body: Body) -> Any:
    """Return one thread per point: ``body(point)`` behind a guard where groups are not full.

    for b in blockIdx.x:
        for t in threadIdx.x:
            if b·threads + t < points: body(b·threads + t)
    """
    threads = min(threads, points)
    block, thread = tirx.Var("block", index), tirx.Var("thread", index)
    point = block * tirx.const(threads, index) + thread
    inside = body(point)
    if points % threads:
        inside = tirx.IfThenElse(point < tirx.const(points, index), inside, None)
    return bound(
        block, -(-points // threads), "blockIdx.x", bound(thread, threads, "threadIdx.x", inside)
    )


def sliced_nest(
    points: int, tiles: int, slices: int, index: str, body: Callable[[Any, Any, Any, Any], Any]
) -> Any:
    """Return work-groups of ``tiles`` points with ``slices`` threads for each.

    for b in blockIdx.x:
        for t in threadIdx.x:            # t = tile + tiles · slice
            body(b·tiles + tile, slice, t, b·tiles + tile < points)

    All threads of a work-group have to reach its barriers: where groups are not full, the last
    point is computed again, and ``valid`` says whether to store it; None where all are full.
    """
    block, thread = tirx.Var("block", index), tirx.Var("thread", index)
    point = block * tirx.const(tiles, index) + thread % tirx.const(tiles, index)
    slice_of = thread // tirx.const(tiles, index)
    valid = None
    if points % tiles:
        valid = point < tirx.const(points, index)
        point = tirx.min(point, tirx.const(points - 1, index))
    inside = body(point, slice_of, thread, valid)
    inside = bound(thread, tiles * slices, "threadIdx.x", inside)
    return bound(block, -(-points // tiles), "blockIdx.x", inside)


def bound(variable: Any, extent: int, tag: str, body: Any) -> Any:
    """Return a loop whose rounds are the blocks or the threads of a launch."""
    index = variable.ty.dtype
    axis = tirx.IterVar(None, tirx.Var(tag, index), tirx.IterVar.ThreadIndex, tag)
    start, count = tirx.const(0, index), tirx.const(extent, index)
    return tirx.For(variable, start, count, tirx.ForKind.THREAD_BINDING, body, axis)


def launch(func: tirx.PrimFunc, name: str, nest: Any) -> tirx.PrimFunc:
    """Return the function of one launch: its parameters are the buffers in memory that it uses.

    Those of ``func`` come first, in their order, then those that only other launches see.
    """
    used = _buffers(nest)
    outside = [p for p in func.params if any(p.same_as(b) for b in used)]
    inside = [b for b in used if not any(b.same_as(p) for p in outside)]
    root = s_tir.SBlock([], [], [], "root", nest)
    body = s_tir.SBlockRealize([], tirx.const(1, "bool"), root)
    result = tirx.PrimFunc([*outside, *inside], body, None, func.attrs)
    return result.with_attr("global_symbol", name)


def _buffers(nest: Any) -> list[Any]:
    """Return every buffer that is read or written, but for those of a single thread."""
    found: list[Any] = []

    def keep(buffer: Any) -> None:
        if buffer.ty.storage_scope == "global" and not any(buffer.same_as(b) for b in found):
            found.append(buffer)

    tvm_ffi.structural_walk(
        nest,
        [
            (ir.TensorLoad, lambda load: keep(load.source)),
            (tirx.BufferStore, lambda store: keep(store.buffer)),
        ],
        order="pre",
    )
    return found

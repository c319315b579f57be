"""Loops that become the threads of a launch, and what a launch takes as arguments."""

from collections.abc import Sequence
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


def local(name: str, dtype: str) -> Any:
    """Return a variable of one thread."""
    return tirx.decl_buffer([1], dtype, name, scope="local")


def get(variable: Any) -> Any:
    """Read a variable of one thread."""
    return tirx.BufferLoad(variable, [0])


def put(variable: Any, value: Any) -> Any:
    """Write a variable of one thread."""
    return tirx.BufferStore(variable, value, [0])


def allocated(variables: Sequence[Any], statements: Sequence[Any]) -> Any:
    """Return the statements behind the allocation of the variables that they use."""
    everything = [*(tirx.AllocBuffer(v) for v in variables), *statements]
    return everything[0] if len(everything) == 1 else tirx.SeqStmt(everything)

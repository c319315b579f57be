"""Vectorise loops whose extent is no multiple of the vector, without a test in the body.

Before:  for c in range(100): body(c)                  # annotated pock.vector_lanes = 16
After:   for o in range(6): for v in vectorized(16): body(16·o + v)
         for v in vectorized(4): body(96 + v)

``Schedule.split`` would guard every element instead, which turns the loop back into scalar code,
and ``Schedule.loop_partition`` computes wrong regions in kernels of several stages. Run it last:
the copies of a block share its name.
"""

from typing import Any

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Range
from tvm.tirx import For, ForKind, IterVar, Var

LANES = "pock.vector_lanes"


def peel_tails(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Expand every loop that is marked with `LANES`."""
    return func.with_body(tvm_ffi.structural_map(func.body, (For, _expand), order="post"))


def _expand(loop: Any) -> Any:
    if LANES not in loop.annotations:
        return loop
    lanes, count, dtype = int(loop.annotations[LANES]), int(loop.extent), loop.loop_var.ty.dtype
    main = count // lanes * lanes
    parts = []
    if main:
        outer, inner = Var(f"{loop.loop_var.name}_o", dtype), Var(f"{loop.loop_var.name}_v", dtype)
        body = _rename(loop.body, loop.loop_var, outer * lanes + inner)
        vector = For(inner, _int(0, dtype), _int(lanes, dtype), ForKind.VECTORIZED, body)
        parts.append(For(outer, _int(0, dtype), _int(main // lanes, dtype), ForKind.SERIAL, vector))
    if count > main:
        tail = Var(f"{loop.loop_var.name}_t", dtype)
        body = _rename(loop.body, loop.loop_var, tail + main)
        parts.append(For(tail, _int(0, dtype), _int(count - main, dtype), ForKind.VECTORIZED, body))
    return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)


def _int(value: int, dtype: Any) -> Any:
    return tirx.IntImm(dtype, value)


def _rename(body: Any, loop_var: Any, value: Any) -> Any:
    """Return a copy of the loop's body at another index, with block axes of its own."""

    def fresh_axes(realize: Any) -> Any:
        block = realize.block
        renamed = {v.var: Var(v.var.name, v.var.ty.dtype) for v in block.iter_vars}

        def rename(var: Any) -> Any:
            return renamed.get(var, var)

        def inside(node: Any) -> Any:
            return tvm_ffi.structural_map(node, (Var, rename), order="post")

        axes = [
            IterVar(Range(v.dom.min, v.dom.min + v.dom.extent), renamed[v.var], v.iter_type)
            for v in block.iter_vars
        ]
        copy = s_tir.SBlock(
            axes,
            inside(block.reads),
            inside(block.writes),
            block.name_hint,
            inside(block.body),
            None if block.init is None else inside(block.init),
            block.alloc_buffers,
            block.match_buffers,
            block.annotations,
        )
        return s_tir.SBlockRealize(realize.iter_values, realize.predicate, copy)

    def place(var: Any) -> Any:
        return value if var.same_as(loop_var) else var

    body = tvm_ffi.structural_map(body, (s_tir.SBlockRealize, fresh_axes), order="post")
    return tvm_ffi.structural_map(body, (Var, place), order="post")

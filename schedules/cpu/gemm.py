"""Everything GEMM-shaped: matrix products, convolutions and their gradients.

    for t in parallel(batch · chunks of rows · groups of columns):
        for ko in blocks of the sum:                   # one, where the panel fits in cache
            panel[j, k, v] = right[…]                  # group · kc · width, contiguous
            for i in row tiles of the chunk:
                for j in column tiles of the group:
                    acc[rows, width] = 0               # registers
                    for k in block:
                        for r, v in unrolled: acc[r, v] += left[i + r, k] · panel[j, k, v]
                    out[i + r, j + v] = epilogue(acc[r, v])     # after the last block

A small result that sums over operands larger than the cache, as the weight gradient of a 1x1
convolution over many pixels, has its sum cut instead: each task sums some of the products for the
whole result, and the parts are added in order.

    for t in parallel(parts): part[t, …] = Σ over its blocks of the sum, as above
    out = epilogue(part[0, …] + part[1, …] + …)

Rows and columns that are left over get tiles of their own, so no loop carries a condition. The
order of every sum depends on the shapes alone, never on the number of threads.
"""

from typing import Any

from tvm import ir, s_tir, tirx

from pock_tvm.schedules.cpu.bf16_gemm import bf16_nest
from pock_tvm.schedules.cpu.blocking import block
from pock_tvm.schedules.cpu.contraction import Contraction, read_contraction
from pock_tvm.schedules.cpu.decision import Decision, blocking_of
from pock_tvm.schedules.cpu.dot import dot_nest, is_dot
from pock_tvm.schedules.cpu.gemm_nest import Nest
from pock_tvm.schedules.cpu.nest import find, sequence
from pock_tvm.schedules.cpu.panels import Operands
from pock_tvm.schedules.cpu.tile_loops import TileLoops
from pock_tvm.targets import TargetSpec


def gemm(
    func: tirx.PrimFunc, spec: TargetSpec, decision: Decision | None = None
) -> s_tir.Schedule | None:
    """Schedule a kernel around one sum of products, cut as decided or by ``block``'s rules.

    Raises:
        ValueError: the decision is not legal for this kernel.
    """
    sch = s_tir.Schedule(func)
    contraction = read_contraction(sch, spec)
    if contraction is None:
        return None
    nest = dot_nest(contraction, spec)
    if nest is None:
        nest = bf16_nest(contraction, spec)
    if nest is None:
        cut = blocking_of(decision, contraction, spec) if decision else block(contraction, spec)
        nest = Nest(Operands(TileLoops(contraction, cut))).build()
    root = sch.get(sch.get_sblock("root"))
    kept = [b for b in root.alloc_buffers if any(_writes(p, b) for p in contraction.prologues)]
    body = sequence(*contraction.prologues, nest)
    outer = s_tir.SBlock([], [], [], "root", body, alloc_buffers=kept)
    scheduled = func.with_body(s_tir.SBlockRealize([], tirx.const(1, "bool"), outer))
    return s_tir.Schedule(ir.IRModule({"main": scheduled}))


def open_contraction(func: tirx.PrimFunc, spec: TargetSpec) -> Contraction | None:
    """Return what ``gemm`` would cut as a decision says; None where there is nothing to decide.

    Matrix products in bfloat16 are cut by rules.
    """
    if spec.precision != "fp32" or spec.device is not None:
        return None
    contraction = read_contraction(s_tir.Schedule(func), spec)
    if contraction is None or contraction.dtype not in ("float32", "float64"):
        return None
    return None if is_dot(contraction, spec) else contraction


def _writes(statement: Any, buffer: Any) -> bool:
    return any(s.buffer.same_as(buffer) for s in find(statement, tirx.BufferStore))

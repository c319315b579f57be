"""Emit a planned step as one function that calls the kernels with addresses inside three regions.

    def pock_entry_train_step(frozen: pointer, state: pointer, arena: pointer) -> int32:
        assert kernel_0(&arena[0], &frozen[64], &arena[401472]) == 0, "kernel_0 failed"
        assert kernel_1(…) == 0, "kernel_1 failed"
        …
        return 0

A failed assertion hands its message to the runtime's error hook and returns -1.

The kernels are called as external functions. They must not be compiled in one module with the entry
point: TVM tells LLVM that different buffers never alias, which holds inside a kernel but not
between kernels, whose buffers share the arena; inlined into one function, LLVM reorders their
accesses.
"""

from collections.abc import Mapping

from tvm import tirx
from tvm.ir import Expr, PointerType, PrimType, StringImm

from pock_tvm.relay_passes.step import Region, Step

REGIONS: tuple[Region, ...] = ("frozen", "state", "arena")


def entry_symbol(name: str) -> str:
    """Return the C symbol of the entry point ``name``."""
    return f"pock_entry_{name}"


def kernel_symbol(name: str) -> str:
    """Return the C symbol of the kernel ``name``."""
    return f"pock_kernel_{name}"


def emit_entry_point(step: Step, offsets: Mapping[str, int]) -> tirx.PrimFunc:
    """Return the host function of ``step``.

    Args:
        step: in its final order.
        offsets: byte offset of every tensor in its region.
    """
    pointers = {r: tirx.Var(r, PointerType(PrimType("uint8"), "global")) for r in REGIONS}
    sizes = dict.fromkeys(REGIONS, 1)
    for name, tensor in step.tensors.items():
        if name in offsets:
            sizes[tensor.region] = max(sizes[tensor.region], offsets[name] + tensor.bytes)
    buffers = {
        r: tirx.decl_buffer((tirx.const(sizes[r], "int64"),), "uint8", f"{r}_bytes")
        for r in REGIONS
    }

    def address(name: str, shift: int) -> Expr:
        region = step.tensors[name].region
        index = tirx.const(offsets[name] + shift, "int64")
        return tirx.address_of(tirx.BufferLoad(buffers[region], [index]))

    body: list[tirx.Stmt] = [tirx.DeclBuffer(buffers[r], data=pointers[r]) for r in REGIONS]
    for call in step.calls:
        places = call.places[: len(call.reads)] if call.overwrites else call.places
        addresses = [address(name, shift) for name, shift in places]
        code = tirx.call_extern("int32", kernel_symbol(call.kernel), *addresses)
        succeeded = tirx.EQ(code, tirx.const(0, "int32"))
        message = [StringImm(f"{step.name}: kernel {call.kernel} failed")]
        body.append(tirx.AssertStmt(succeeded, StringImm("RuntimeError"), message))
    body.append(tirx.Return(tirx.const(0, "int32")))
    func = tirx.PrimFunc(list(pointers.values()), tirx.SeqStmt(body), PrimType("int32"))
    return func.with_attr("global_symbol", entry_symbol(step.name))

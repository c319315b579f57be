"""One kernel as a shared library that any TVM runtime loads: what TVM's RPC server measures.

The kernel's object is the one that an artifact holds; a wrapper of TVM's calling convention passes
its pointers on. Threads and workspace come from the TVM runtime instead of ours.
"""

import tempfile
from pathlib import Path

import tvm
from tvm import tirx
from tvm.ir import StringImm

from pock_tvm.artifact.link import run_lld, run_zig
from pock_tvm.compilation.kernel_sources import KernelSource
from pock_tvm.relay_passes.build_object import build_kernel
from pock_tvm.relay_passes.emit_entry_point import kernel_symbol
from pock_tvm.schedules import schedule_kernel
from pock_tvm.schedules.cpu.decision import Decision
from pock_tvm.targets import TargetSpec

FUNCTION = "run"
"""Name of the one function of such a library."""

_PAGE_BYTES = 16 * 1024
"""Systems with such pages refuse less; any multiple of the page will do."""


def kernel_library(
    name: str, source: KernelSource, spec: TargetSpec, decision: Decision | None = None
) -> bytes:
    """Schedule a kernel, as decided or by the rules, and link its library.

    Raises:
        BuildError: zig could not link.
        ValueError: the decision is not legal for this kernel.
    """
    scheduled = schedule_kernel(source.func, spec, decision)
    kernel = build_kernel(name, scheduled, spec, in_place=source.in_place)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        objects = [folder / "kernel.o", folder / "wrapper.o"]
        objects[0].write_bytes(kernel.machine_code)
        _wrapper(name, source.func, spec).write_to_file(str(objects[1]), "o")
        output = folder / "kernel.so"
        system = str(spec.tvm_options["mtriple"])
        if "-macos" in system:
            options = ["-dynamiclib", "-Wl,-undefined,dynamic_lookup"]
            run_zig(options, spec.zig_target, objects, output)
        else:  # the C library and libm are those of the process that loads it
            words = ["-shared", "-z", f"max-page-size={_PAGE_BYTES}", *map(str, objects)]
            run_lld(words, output, spec.zig_target)
        return output.read_bytes()


def _wrapper(name: str, func: tirx.PrimFunc, spec: TargetSpec) -> tvm.runtime.Module:
    """Return a function over TVM's tensors that calls the kernel."""
    buffers = [tirx.decl_buffer(list(p.shape), p.dtype, f"p{i}") for i, p in enumerate(func.params)]
    zero = tirx.const(0, "int64")
    addresses = [tirx.address_of(tirx.BufferLoad(b, [zero] * len(b.shape))) for b in buffers]
    code = tirx.call_extern("int32", kernel_symbol(name), *addresses)
    succeeded = tirx.EQ(code, tirx.const(0, "int32"))
    message = [StringImm(f"kernel {name} failed")]
    body = tirx.AssertStmt(succeeded, StringImm("RuntimeError"), message)
    wrapper = tirx.PrimFunc(buffers, body).with_attr("global_symbol", FUNCTION)
    return tirx.build(tvm.IRModule({FUNCTION: wrapper}), target=spec.build())

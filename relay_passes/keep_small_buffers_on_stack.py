"""Keep register tiles and other small buffers of a kernel on the stack.

Before:  acc = alloc_buffer((384,), "float32", scope="local")      -> TVMBackendAllocWorkspace
After:   acc = alloc_buffer(…), annotated disable_lower_builtin    -> alloca, then registers

TVM asks the runtime for every buffer of 1 KiB or more, and for every "local" one. LLVM cannot keep
what an external call returned in registers, so that an accumulator would be stored after every
block of the loop. Run it before ``LowerTVMBuiltin``.
"""

import math

import tvm
import tvm_ffi
from tvm import tirx

MAX_STACK_BYTES = 8 * 1024
"""A kernel holds few of them at once, on threads that the runtime gives stacks of 512 KiB."""

_ANNOTATION = "disable_lower_builtin"


@tirx.transform.prim_func_pass(opt_level=0, name="KeepSmallBuffersOnStack")
class KeepSmallBuffersOnStack:
    """Annotate every buffer of at most ``MAX_STACK_BYTES``."""

    def transform_function(
        self, func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
    ) -> tirx.PrimFunc:
        """Rewrite one kernel."""
        rewrite = (tirx.AllocBuffer, _annotate)
        return func.with_body(tvm_ffi.structural_map(func.body, rewrite, order="post"))


def buffer_bytes(buffer: tirx.Buffer) -> int:
    """Return the size of a buffer of static shape."""
    dtype = tvm.DataType(str(buffer.dtype))
    return math.prod(int(d) for d in buffer.shape) * dtype.lanes * ((dtype.bits + 7) // 8)


def stays_on_stack(alloc: tirx.AllocBuffer) -> bool:
    """Tell whether ``KeepSmallBuffersOnStack`` has marked an allocation."""
    return _ANNOTATION in alloc.annotations


def _annotate(alloc: tirx.AllocBuffer) -> tirx.AllocBuffer:
    if buffer_bytes(alloc.buffer) > MAX_STACK_BYTES:
        return alloc
    annotations = {**dict(alloc.annotations), _ANNOTATION: tirx.const(1, "int32")}
    return tirx.AllocBuffer(alloc.buffer, annotations)

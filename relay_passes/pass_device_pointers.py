"""Lower the launches of a GPU to functions over raw pointers, as its source is written from.

Before:  for b in thread_binding("blockIdx.x"): for t in thread_binding("threadIdx.x"): … X[i, j] …
After:   def launch(x: pointer): X = decl_buffer(data=x); with launch_thread(…): … X[i · n + j] …

Each launch is a kernel of the device by itself: there is no host function, and TVM's split into
host and device, with its packed calls, is not needed.
"""

import re

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import CallingConv, PointerType, PrimType
from tvm.tirx.buffer import is_buffer_var

from pock_tvm.relay_passes.call_device_functions import CallDeviceFunctions
from pock_tvm.relay_passes.keep_constant_bits import KeepConstantBits

AXES = ("x", "y", "z")


@tvm.transform.module_pass(opt_level=0, name="PassDevicePointers")
class PassDevicePointers:
    """Turn each buffer parameter of every PrimFunc into a pointer of the device."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every function; each becomes a kernel that is launched."""
        functions = {var: _with_pointers(func) for var, func in mod.functions.items()}
        return tvm.IRModule(functions, attrs=mod.attrs)


def _with_pointers(func: tirx.PrimFunc) -> tirx.PrimFunc:
    assert all(is_buffer_var(p) for p in func.params), "a launch takes buffers only"
    pointers, declarations = [], []
    for p in func.params:
        # A bool takes a byte, and no device has pointers to them.
        dtype = "int8" if str(p.ty.dtype) == "bool" else str(p.ty.dtype)
        name = re.sub(r"\W", "_", p.name)  # of a tensor, some with brackets
        pointers.append(tirx.Var(f"{name}_ptr", PointerType(PrimType(dtype), "global")))
        declarations.append(tirx.DeclBuffer(p, data=pointers[-1]))
    body = tirx.SeqStmt([*declarations, func.body])
    out = tirx.PrimFunc(pointers, body, None, func.attrs)
    out = out.with_attr("calling_conv", CallingConv.DEVICE_KERNEL_LAUNCH)
    # What a Metal kernel asks for among its parameters.
    indices = ["blockIdx.x", "threadIdx.x"]
    return out.with_attr({"tirx.is_global_func": True, "tirx.kernel_launch_params": indices})


def lower_launches() -> tvm.transform.Pass:
    """Return the lowering of scheduled launches, up to what the source is written from."""
    return tvm.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LiftThreadBinding(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.UnifyThreadBinding(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.ConvertSSA(),
            tirx.transform.VectorizeLoop(True),  # noqa: FBT003  (TVM's signature)
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.CommonSubexprElim(),
            PassDevicePointers(),
            tirx.transform.StmtSimplify(),
            CallDeviceFunctions(),
            tirx.transform.LowerIntrin(),
            KeepConstantBits(),
        ]
    )


def launch_size(func: tirx.PrimFunc) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return how many work-groups a lowered launch has along each axis, and threads in each."""
    sizes = {"blockIdx": [1, 1, 1], "threadIdx": [1, 1, 1]}

    def read(statement: tirx.AttrStmt) -> None:
        if statement.attr_key == "thread_extent":
            kind, _, axis = str(statement.node.thread_tag).partition(".")
            sizes[kind][AXES.index(axis)] = int(statement.value)

    tvm_ffi.structural_walk(func.body, (tirx.AttrStmt, read), order="pre")
    groups, threads = sizes["blockIdx"], sizes["threadIdx"]
    return (groups[0], groups[1], groups[2]), (threads[0], threads[1], threads[2])

"""Give kernels a plain C signature: one pointer per buffer, an int32 result, no packed arguments.

Before:  def kernel(x: Buffer((n,)), y: Buffer((n,))): body
After:   def kernel(x: pointer, y: pointer) -> int32: X = decl_buffer(data=x) …; body; return 0

TVM's own calling convention packs DLTensors and checks them at run time; on a device every shape is
known at compile time and every pointer comes from the arena. ``lower_kernels`` is TVM's CPU
lowering with this pass in the place of ``MakePackedAPI``.
"""

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType
from tvm.tirx.buffer import is_buffer_var

from pock_tvm.relay_passes.expand_transcendentals import ExpandTranscendentals
from pock_tvm.relay_passes.keep_small_buffers_on_stack import KeepSmallBuffersOnStack
from pock_tvm.relay_passes.share_lane_variables import ShareLaneVariables
from pock_tvm.relay_passes.split_nested_functions import SplitNestedFunctions

DEVICE_TYPE_CPU = 1


@tvm.transform.module_pass(opt_level=0, name="PassRawPointers")
class PassRawPointers:
    """Turn each buffer parameter of every PrimFunc into a pointer."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every function that takes buffers; leave those that take pointers already."""
        functions = {var: _with_pointers(func) for var, func in mod.functions.items()}
        return tvm.IRModule(functions, attrs=mod.attrs)


def _with_pointers(func: tirx.PrimFunc) -> tirx.PrimFunc:
    if not any(is_buffer_var(p) for p in func.params):
        return func
    pointers, declarations = [], []
    for p in func.params:
        if is_buffer_var(p):
            pointer = tirx.Var(p.name + "_ptr", PointerType(p.ty.dtype, p.ty.storage_scope))
            declarations.append(tirx.DeclBuffer(p, data=pointer))
            pointers.append(pointer)
        else:
            pointers.append(p)
    body = func.body
    # Workspace calls ask for the device; the code generator looks for these around the body.
    for key, value in (("device_type", DEVICE_TYPE_CPU), ("device_id", 0)):
        body = tirx.AttrStmt("default", key, tirx.const(value, "int32"), body)
    # The return stands outside the body's scope: inside, freeing the workspace would be dead code.
    body = tirx.SeqStmt([*declarations, body, tirx.Return(tirx.const(0, "int32"))])
    # A void kernel with a parallel loop fails LLVM's verification, hence the int32 result.
    out = tirx.PrimFunc(pointers, body, PrimType("int32"), func.attrs)
    return out.with_attr("calling_conv", 0).without_attr("tirx.is_global_func")


def lower_kernels() -> tvm.transform.Pass:
    """Return the lowering of scheduled CPU kernels, up to functions over raw pointers."""
    return tvm.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
            SplitNestedFunctions(),
            # After scheduling, whose rules judge a kernel's cost by the calls in it.
            ExpandTranscendentals(),
            ShareLaneVariables(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.BF16ComputeLegalize(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            # An expression used twice holds its let bindings twice; vectorizing refuses that.
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
            tirx.transform.VerifyMemory(),
            KeepSmallBuffersOnStack(),
            PassRawPointers(),
            tirx.transform.BF16StorageLegalize(),
        ]
    )

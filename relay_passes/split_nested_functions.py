"""Store an argument that is computed by a transcendental function before it is used.

Before:  for v in vectorized(16): y[v] = tanh(log(exp(x[v]) + 1))
After:   for v in vectorized(16):
             a[v] = exp(x[v]) + 1;  b[v] = log(a[v]);  y[v] = tanh(b[v])

``ExpandTranscendentals`` makes nested lets of such an expression, and TVM's code generator writes
the value of a let into the values of all lets inside: three levels took it half a minute. LLVM
turns the buffers, one vector each, into registers. Run it before that pass, on loops without
blocks. What ``if_then_else`` guards is not taken out.
"""

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from pock_tvm.relay_passes.expand_transcendentals import is_expanded


@tvm.transform.module_pass(opt_level=0, name="SplitNestedFunctions")
class SplitNestedFunctions:
    """Take nested transcendental functions apart in every PrimFunc."""

    def transform_module(
        self, mod: tvm.IRModule, _context: tvm.transform.PassContext
    ) -> tvm.IRModule:
        """Return the module with no function of a function."""
        functions = {
            name: split_nested_functions(func) if isinstance(func, tirx.PrimFunc) else func
            for name, func in mod.functions.items()
        }
        return tvm.IRModule(functions, attrs=mod.attrs)


def split_nested_functions(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Take the nested functions of one kernel apart."""
    body = tvm_ffi.structural_map(func.body, (tirx.For, _in_vector_loop), order="post")
    body = tvm_ffi.structural_map(body, (tirx.BufferStore, _alone), order="post")
    return func if body.same_as(func.body) else func.with_body(body)


def _in_vector_loop(loop: tirx.For) -> Any:
    if loop.kind != tirx.ForKind.VECTORIZED:
        return loop
    buffers: list[Any] = []

    def split(store: tirx.BufferStore) -> Any:
        return _split(store, loop.extent, loop.loop_var - loop.min, buffers)

    body = tvm_ffi.structural_map(loop.body, (tirx.BufferStore, split), order="post")
    if not buffers:
        return loop
    vector = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
    return tirx.SeqStmt([*(tirx.AllocBuffer(b) for b in buffers), vector])


def _alone(store: tirx.BufferStore) -> Any:
    buffers: list[Any] = []
    split = _split(store, tirx.const(1, "int64"), tirx.const(0, "int64"), buffers)
    if not buffers:
        return store
    return tirx.SeqStmt([*(tirx.AllocBuffer(b) for b in buffers), split])


def _split(store: tirx.BufferStore, lanes: Any, lane: Any, buffers: list[Any]) -> Any:
    """Return the store behind those of its arguments, and add their buffers."""
    if _has_call(store.value, lambda call: call.op.name == "prim.if_then_else"):
        return store
    statements: list[Any] = []

    def take_argument(call: Call) -> Call:
        if not is_expanded(call) or not _has_call(call.args[0], is_expanded):
            return call
        buffer = tirx.decl_buffer([lanes], "float32", "argument", scope="local")
        buffers.append(buffer)
        statements.append(tirx.BufferStore(buffer, call.args[0], [lane]))
        taken = tirx.BufferLoad(buffer, [lane])
        return Call(call.op, [taken, *call.args[1:]], call.attrs, ret_ty=call.ty)

    value = tvm_ffi.structural_map(store.value, (Call, take_argument), order="post")
    if not statements:
        return store
    return tirx.SeqStmt([*statements, tirx.BufferStore(store.buffer, value, store.indices)])


def _has_call(expression: Any, matches: Any) -> bool:
    found: list[Call] = []
    tvm_ffi.structural_walk(expression, (Call, found.append))
    return any(matches(call) for call in found)

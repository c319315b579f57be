"""Put the calls of each micro-batch behind those of the one before.

Before:  y0 = f(x[0:4]);  y1 = f(x[4:8]);  w̄1 = g(y1);  w̄0 = g(y0);  w̄ = w̄1 + w̄0
After:   y1 = f(x[4:8]);  w̄1 = g(y1);  y0 = f(x[0:4]);  w̄0 = g(y0);  w̄ = w̄1 + w̄0

``DeriveBackward`` walks back from the last part, so its gradients come first in every sum; in this
order each sum exists once, as the gradients join it. What a later micro-batch reads goes through a
view of itself, which no kernel is fused across: else fusion would put the gradient of an early one
into the sum, and keep what that gradient is made of until then. Run it behind ``DeriveBackward``.
"""

from collections.abc import Collection

import tvm
from tvm import relax

from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, substitute


@tvm.transform.module_pass(opt_level=0, name="GroupMicroBatches")
class GroupMicroBatches:
    """Sort the bindings of ``main`` by the last micro-batch that they depend on.

    Args:
        inputs: parameters of which ``SplitBatch`` took some rows at a time.
        count: micro-batches; 1 leaves the module alone.
    """

    def __init__(self, inputs: Collection[str], count: int) -> None:
        self.inputs, self.count = {*inputs, "labels"}, count

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        if self.count == 1:
            return mod
        func = mod["main"]
        sizes = {p: int(p.ty.shape[0]) // self.count for p in func.params if p.name in self.inputs}
        turn: dict[relax.Var, int] = {}
        for binding in bindings_of(func):
            value = binding.value
            read = [turn[v] for v in relax.analysis.free_vars(value) if v in turn]
            if is_call_to(value, "pock.rows", "relax.strided_slice") and value.args[0] in sizes:
                first = _first_row(value)
                read.append(self.count - 1 - first // sizes[value.args[0]])
            turn[binding.var] = max(read, default=-1)  # -1: weights alone
        bb = relax.BlockBuilder()
        with bb.function("main", list(func.params), attrs=dict(func.attrs or {})):
            with bb.dataflow():
                seen: dict[relax.Var, relax.Expr] = {}
                for binding in sorted(bindings_of(func), key=lambda b: turn[b.var]):
                    read = relax.analysis.free_vars(binding.value)
                    early = [v for v in read if 0 <= turn.get(v, -1) < turn[binding.var]]
                    for v in early:
                        if v not in seen and isinstance(v.ty, relax.TensorType) and v.ty.shape:
                            seen[v] = bb.emit(relax.op.reshape(v, v.ty.shape))
                    views = {v: seen[v] for v in early if v in seen}
                    if views and isinstance(binding.value, relax.Call):
                        value = bb.normalize(substitute(binding.value, views))
                        bb.emit_normalized(relax.VarBinding(binding.var, value))
                    else:
                        bb.emit_normalized(binding)
            bb.emit_func_output(func.body.body)
        out = mod.clone()
        out["main"] = bb.get()["main"]
        return out


def _first_row(value: relax.Call) -> int:
    if is_call_to(value, "pock.rows"):
        return int(value.attrs["begin"])
    return int(value.args[2].fields[0].value)

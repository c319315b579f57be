"""Let the forward pass note which pixel of each window was the greatest.

Before:  y = max_pool2d(x); …forward…;  t = max_pool2d_taps(x, y);  x̄ = max_pool2d_grad(t, ȳ)
After:   y = max_pool2d(x);  t = max_pool2d_taps(x, y); …forward…;  x̄ = max_pool2d_grad(t, ȳ)

The rule of the pool writes both operators where its gradient is. There the taps would keep the
pool's input and output through the step; behind the pool they are all that is kept, a byte per
window. Run it after ``DeriveBackward``, before ``PackMasks``, which counts the readers of each
tensor.
"""

from collections import defaultdict

import tvm
from tvm import relax
from tvm.relax.utils import copy_with_new_vars

from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to


@tvm.transform.module_pass(opt_level=0, name="KeepPoolTaps")
class KeepPoolTaps:
    """Bind the taps of max pools right behind the pools."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        if not any(_are_taps(b) for b in bindings_of(mod["main"])):
            return mod
        out = mod.clone()
        out["main"] = _move(copy_with_new_vars(mod["main"]))
        return out


def _are_taps(binding: relax.VarBinding) -> bool:
    return is_call_to(binding.value, "pock.max_pool2d_taps")


def _move(main: relax.Function) -> relax.Function:
    behind: dict[relax.Var, list[relax.VarBinding]] = defaultdict(list)
    for binding in bindings_of(main):
        if _are_taps(binding):
            behind[binding.value.args[1]].append(binding)
    bb = relax.BlockBuilder()
    with bb.function("main", list(main.params), attrs=dict(main.attrs or {})):
        with bb.dataflow():
            for binding in bindings_of(main):
                if _are_taps(binding):
                    continue
                bb.emit_normalized(binding)
                for taps in behind[binding.var]:
                    bb.emit_normalized(taps)
        bb.emit_func_output(main.body.body)
    return bb.get()["main"]

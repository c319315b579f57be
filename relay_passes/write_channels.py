"""Make the slice of a weight a part of that weight again.

Before:  main(w, …, w[channels], …):  s' = step(w[channels], w̄s);  return loss, s'
         updates = ["w[channels]"]
After:   main(w, …):  s = take(w, channels);  s' = step(s, w̄s);
                      w' = write_slice(w, channels, s');  return loss, w'      updates = ["w"]

``SliceChannels`` made the parameter, ``AppendOptimizer`` its new value and slots of its size. The
weight is overwritten in place: channels that do not learn keep their bits.
"""

from collections.abc import Mapping

import tvm
from tvm import relax
from tvm.relax.op import take

from pock_tvm.relay_passes.operators.write_slice import write_slice
from pock_tvm.relay_passes.rewrite import bindings_of, returned_fields, substitute
from pock_tvm.relay_passes.slice_channels import StoredSlice, indices_of, slice_name


@tvm.transform.module_pass(opt_level=0, name="WriteChannels")
class WriteChannels:
    """Replace parameters ``w[channels]`` and their updates by parts of ``w``.

    Args:
        slices: as ``SliceChannels`` got them.
    """

    def __init__(self, slices: Mapping[str, StoredSlice]) -> None:
        self.slices = dict(slices)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        if not self.slices:
            return mod
        func = mod["main"]
        owners = {slice_name(name): name for name in self.slices}
        kept = {p: relax.Var(p.name, p.ty) for p in func.params if p.name not in owners}
        parts = {p: owners[p.name] for p in func.params if p.name in owners}
        weights = {p.name: p for p in kept.values()}
        env: dict[relax.Var, relax.Expr] = dict(kept)
        outputs = returned_fields(func)
        updates = [str(name) for name in func.attrs["updates"]]
        results = dict(zip(updates, outputs[1:], strict=False))
        new = {results[part]: name for part, name in owners.items()}
        bb = relax.BlockBuilder()
        with bb.function("main", list(kept.values()), attrs=dict(func.attrs)):
            with bb.dataflow():
                for binding in bindings_of(func):
                    if isinstance(binding.value, relax.Tuple):
                        continue  # the old result
                    for part in relax.analysis.free_vars(binding.value):
                        if part in parts and part not in env:  # right before the optimizer's step
                            name = parts[part]
                            axis, channels = self.slices[name]
                            env[part] = bb.emit(take(weights[name], indices_of(channels), axis))
                    env[binding.var] = bb.emit(substitute(binding.value, env))
                    if binding.var in new:  # and the write right behind it
                        name = new[binding.var]
                        axis, channels = self.slices[name]
                        part = env[binding.var]
                        written = write_slice(weights[name], indices_of(channels), part, axis)
                        env[binding.var] = bb.emit(written)
                result = bb.emit_output(relax.Tuple([substitute(v, env) for v in outputs]))
            bb.emit_func_output(result)
        out = mod.clone()
        renamed = [owners.get(name, name) for name in updates]
        out["main"] = bb.get()["main"].with_attr("updates", renamed)
        return out

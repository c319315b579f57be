"""Lower the kernels and entry points of an artifact to one object file.

Symbols: the entry points are global; a kernel keeps internal linkage, so that LLVM may inline it.
The object needs libm and the three functions the runtime provides (parallel launch, workspace).
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import CallingConv, GlobalVar

from pock_tvm.relay_passes.emit_entry_point import emit_entry_point
from pock_tvm.relay_passes.keep_small_buffers_on_stack import buffer_bytes, stays_on_stack
from pock_tvm.relay_passes.pass_raw_pointers import lower_kernels
from pock_tvm.relay_passes.step import Step, align
from pock_tvm.targets import TargetSpec


@dataclass(frozen=True)
class BuiltObject:
    """Machine code, and the workspace its kernels ask for."""

    object_bytes: bytes
    workspace_bytes_per_thread: int


def build_object(
    steps: Iterable[Step],
    offsets: Mapping[str, Mapping[str, int]],
    kernels: Mapping[str, tirx.PrimFunc],
    spec: TargetSpec,
) -> BuiltObject:
    """Compile scheduled ``kernels`` and the entry point of each step.

    Args:
        steps: entry points, their calls naming ``kernels``.
        offsets: by step name, the offset of every tensor in its region.
        kernels: scheduled kernels by name.
        spec: machine to compile for.
    """
    steps = list(steps)
    target = spec.build()
    target = target.with_host(target)
    in_place = _kernels_called_in_place(steps)
    variables = {name: GlobalVar(name) for name in kernels}
    functions = {}
    for name, kernel in kernels.items():
        func = kernel.without_attr("global_symbol") if "global_symbol" in kernel.attrs else kernel
        # Two arguments of an in-place kernel are the same memory.
        functions[variables[name]] = func.with_attr("tirx.noalias", name not in in_place)
    mod = tirx.transform.BindTarget(target)(tvm.IRModule(functions))
    mod = lower_kernels()(mod)
    workspace = max((_workspace_bytes(f) for f in mod.functions.values()), default=0)
    lowered = {variables[var.name_hint]: mod[var] for var in mod.get_global_vars()}
    for step in steps:
        entry = emit_entry_point(step, offsets[step.name], variables)
        entry = entry.with_attr("target", target).with_attr("calling_conv", CallingConv.DEFAULT)
        lowered[GlobalVar(entry.attrs["global_symbol"])] = entry
    mod = tvm.IRModule(lowered)
    mod = tirx.transform.LowerTVMBuiltin()(mod)
    mod = tirx.transform.LowerIntrin()(mod)
    module = tvm.get_global_func("target.build.llvm")(mod, target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.o"
        module.write_to_file(str(path), "o")
        return BuiltObject(path.read_bytes(), workspace)


def _kernels_called_in_place(steps: Iterable[Step]) -> set[str]:
    return {c.kernel for s in steps for c in s.calls if set(c.reads) & set(c.writes)}


def _workspace_bytes(func: tirx.PrimFunc) -> int:
    """Return an upper bound of what one thread takes from the workspace while ``func`` runs."""
    total = 0

    def add(alloc: tirx.AllocBuffer) -> None:
        nonlocal total
        if not stays_on_stack(alloc):
            total += align(buffer_bytes(alloc.buffer))

    tvm_ffi.structural_walk(func.body, (tirx.AllocBuffer, add), order="pre")
    return total

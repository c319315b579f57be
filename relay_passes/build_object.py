"""Compile the kernels and the entry points of an artifact to object files.

Symbols: ``pock_entry_*`` and ``pock_kernel_*``. The objects need libm and the three functions that
the runtime provides (parallel launch, workspace). Kernels and entry points are compiled apart; see
``emit_entry_point`` for the reason.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import CallingConv, GlobalVar

from pock_tvm.relay_passes.emit_entry_point import emit_entry_point, kernel_symbol
from pock_tvm.relay_passes.expand_transcendentals import ExpandTranscendentals
from pock_tvm.relay_passes.keep_small_buffers_on_stack import buffer_bytes, stays_on_stack
from pock_tvm.relay_passes.pass_raw_pointers import lower_kernels
from pock_tvm.relay_passes.step import KernelCall, Step, align
from pock_tvm.targets import TargetSpec

KERNELS_PER_OBJECT = 8
"""Small enough to keep every core of the workstation busy and to show progress."""


@dataclass(frozen=True)
class BuiltObjects:
    """Machine code, and the workspace its kernels ask for."""

    objects: tuple[bytes, ...]
    workspace_bytes_per_thread: int


def build_objects(
    steps: Iterable[Step],
    offsets: Mapping[str, Mapping[str, int]],
    kernels: Mapping[str, tirx.PrimFunc],
    spec: TargetSpec,
    tell: Callable[[int], None] = lambda done: None,
) -> BuiltObjects:
    """Compile scheduled ``kernels`` and the entry point of each step.

    Args:
        steps: entry points, their calls naming ``kernels``.
        offsets: by step name, the offset of every tensor in its region.
        kernels: scheduled kernels by name.
        spec: machine to compile for.
        tell: called with the number of kernels compiled so far.
    """
    steps = list(steps)
    target = spec.build()
    target = target.with_host(target)
    lowered, workspace = _lower(kernels, _kernels_called_in_place(steps, offsets), target)
    chunks = [
        lowered[i : i + KERNELS_PER_OBJECT] for i in range(0, len(lowered), KERNELS_PER_OBJECT)
    ]
    objects = [_compile([_entry(step, offsets[step.name], target) for step in steps], target)]
    with ThreadPoolExecutor() as pool:
        for done, machine_code in enumerate(pool.map(lambda c: _compile(c, target), chunks), 1):
            objects.append(machine_code)
            tell(min(done * KERNELS_PER_OBJECT, len(lowered)))
    return BuiltObjects(tuple(objects), workspace)


def _lower(
    kernels: Mapping[str, tirx.PrimFunc], in_place: set[str], target: tvm.target.Target
) -> tuple[list[tirx.PrimFunc], int]:
    """Return the kernels over raw pointers, and the most workspace that one of them asks for."""
    functions = {}
    for name, kernel in kernels.items():
        func = kernel.with_attr("global_symbol", kernel_symbol(name))
        # Two arguments of an in-place kernel are the same memory.
        functions[GlobalVar(name)] = func.with_attr("tirx.noalias", name not in in_place)
    mod = tirx.transform.BindTarget(target)(tvm.IRModule(functions))
    # After scheduling, whose rules judge a kernel's cost by the calls in it.
    mod = ExpandTranscendentals()(mod)  # type: ignore[operator]  # the decorator adds __call__
    mod = lower_kernels()(mod)
    out = [mod[name] for name in kernels]
    return out, max((_workspace_bytes(func) for func in out), default=0)


def _entry(step: Step, offsets: Mapping[str, int], target: tvm.target.Target) -> tirx.PrimFunc:
    entry = emit_entry_point(step, offsets).with_attr("target", target)
    return entry.with_attr("calling_conv", CallingConv.DEFAULT)


def _compile(functions: Iterable[tirx.PrimFunc], target: tvm.target.Target) -> bytes:
    mod = tvm.IRModule({GlobalVar(str(f.attrs["global_symbol"])): f for f in functions})
    mod = tirx.transform.LowerTVMBuiltin()(mod)
    mod = tirx.transform.LowerIntrin()(mod)
    module = tvm.get_global_func("target.build.llvm")(mod, target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.o"
        module.write_to_file(str(path), "o")
        return path.read_bytes()


def _kernels_called_in_place(
    steps: Iterable[Step], offsets: Mapping[str, Mapping[str, int]]
) -> set[str]:
    """Return the kernels that write where they read, in one of their calls at least."""

    def is_in_place(step: Step, call: KernelCall) -> bool:
        at = [
            (step.tensors[name].region, offsets[step.name][name] + shift)
            for name, shift in call.places
        ]
        return bool({*at[: len(call.reads)]} & {*at[len(call.reads) :]})

    return {call.kernel for step in steps for call in step.calls if is_in_place(step, call)}


def _workspace_bytes(func: tirx.PrimFunc) -> int:
    """Return an upper bound of what one thread takes from the workspace while ``func`` runs."""
    total = 0

    def add(alloc: tirx.AllocBuffer) -> None:
        nonlocal total
        if not stays_on_stack(alloc):
            total += align(buffer_bytes(alloc.buffer))

    tvm_ffi.structural_walk(func.body, (tirx.AllocBuffer, add), order="pre")
    return total

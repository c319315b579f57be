"""Compile the kernels and the entry points of an artifact to object files.

Symbols: ``pock_entry_*`` and ``pock_kernel_*``. The objects need libm and the three functions that
the runtime provides (parallel launch, workspace). Kernels and entry points are compiled apart; see
``emit_entry_point`` for the reason.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import CallingConv, GlobalVar

from pock_tvm.relay_passes.emit_entry_point import emit_entry_point, kernel_symbol
from pock_tvm.relay_passes.keep_small_buffers_on_stack import buffer_bytes, stays_on_stack
from pock_tvm.relay_passes.pass_raw_pointers import lower_kernels
from pock_tvm.relay_passes.step import KernelCall, Step, align
from pock_tvm.targets import TargetSpec

KERNELS_PER_OBJECT = 8
"""Small enough to keep every core of the workstation busy and to show progress."""


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel as an object file."""

    machine_code: bytes
    workspace_bytes: int
    """Upper bound of what one thread takes from the workspace while it runs."""


@dataclass(frozen=True)
class BuiltObjects:
    """Machine code, and the workspace its kernels ask for."""

    objects: tuple[bytes, ...]
    workspace_bytes_per_thread: int
    compiled: Mapping[str, CompiledKernel] = field(default_factory=dict)
    """The kernels that were compiled, where each got an object of its own."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """C files by name, to be compiled too: the launches of a target with a GPU."""
    workspace_bytes: int = 0
    """What those launches ask for, behind the tensors of the arena."""


def build_objects(
    steps: Iterable[Step],
    offsets: Mapping[str, Mapping[str, int]],
    kernels: Mapping[str, tirx.PrimFunc],
    spec: TargetSpec,
    tell: Callable[[int], None] = lambda done: None,
    *,
    known: Mapping[str, CompiledKernel] | None = None,
) -> BuiltObjects:
    """Compile scheduled ``kernels`` and the entry point of each step.

    Args:
        steps: entry points, their calls naming ``kernels`` and ``known`` ones.
        offsets: by step name, the offset of every tensor in its region.
        kernels: scheduled kernels by name.
        spec: machine to compile for.
        tell: called with the number of kernels compiled so far.
        known: kernels that have been compiled before; where this is given, each of ``kernels`` gets
            an object of its own, to be known the next time. That takes LLVM a half longer.
    """
    steps = list(steps)
    target = spec.build()
    target = target.with_host(target)
    lowered = _lower(kernels, kernels_called_in_place(steps, offsets), target)
    workspaces = [_workspace_bytes(func) for func in lowered]
    size = KERNELS_PER_OBJECT if known is None else 1
    chunks = [lowered[i : i + size] for i in range(0, len(lowered), size)]
    objects = [_compile([_entry(step, offsets[step.name], target) for step in steps], target)]
    with ThreadPoolExecutor() as pool:
        for done, machine_code in enumerate(pool.map(lambda c: _compile(c, target), chunks), 1):
            objects.append(machine_code)
            tell(min(done * size, len(lowered)))
    compiled = {}
    if known is not None:
        rows = zip(kernels, objects[1:], workspaces, strict=True)
        compiled = {name: CompiledKernel(code, count) for name, code, count in rows}
        every = {**compiled, **known}
        # By name, so that what was known before makes no difference.
        objects[1:] = [every[name].machine_code for name in sorted(every)]
        workspaces = [kernel.workspace_bytes for kernel in every.values()]
    return BuiltObjects(tuple(objects), max(workspaces, default=0), compiled)


def build_kernel(
    name: str, scheduled: tirx.PrimFunc, spec: TargetSpec, *, in_place: bool
) -> CompiledKernel:
    """Compile one scheduled kernel as ``build_objects`` does."""
    target = spec.build()
    target = target.with_host(target)
    (lowered,) = _lower({name: scheduled}, {name} if in_place else set(), target)
    return CompiledKernel(_compile([lowered], target), _workspace_bytes(lowered))


def _lower(
    kernels: Mapping[str, tirx.PrimFunc], in_place: set[str], target: tvm.target.Target
) -> list[tirx.PrimFunc]:
    """Return the kernels over raw pointers."""
    functions = {}
    for name, kernel in kernels.items():
        func = kernel.with_attr("global_symbol", kernel_symbol(name))
        # Two arguments of an in-place kernel are the same memory.
        functions[GlobalVar(name)] = func.with_attr("tirx.noalias", name not in in_place)
    mod = tirx.transform.BindTarget(target)(tvm.IRModule(functions))
    mod = lower_kernels()(mod)
    return [mod[name] for name in kernels]


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


def kernels_called_in_place(
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

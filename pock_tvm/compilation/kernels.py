"""Schedule and compile the kernels of a step, those that were not compiled before."""

from collections.abc import Callable, Mapping, Sequence

from tvm import tirx

from pock_tvm.compilation.kernel_cache import KernelCache
from pock_tvm.relay_passes.build_object import (
    BuiltObjects,
    CompiledKernel,
    build_objects,
    kernels_called_in_place,
)
from pock_tvm.relay_passes.step import Step
from pock_tvm.schedules import schedule_kernel
from pock_tvm.schedules.recorded import recorded_decisions
from pock_tvm.targets import TargetSpec


def compile_kernels(
    steps: Sequence[Step],
    offsets: Mapping[str, Mapping[str, int]],
    kernels: Mapping[str, tirx.PrimFunc],
    spec: TargetSpec,
    tell: Callable[[str, int, int], None],
    *,
    cache: bool,
) -> BuiltObjects:
    """Return the objects of the entry points and of every kernel.

    Args:
        steps: entry points, in their final order.
        offsets: by step name, the offset of every tensor in its region.
        kernels: by name, as they come from the graph.
        spec: machine to compile for.
        tell: called with (stage, done, total).
        cache: look into the user's cache first, and leave there what was compiled.
    """
    decisions = recorded_decisions(kernels, spec)
    stored = KernelCache.of_user(spec) if cache else None
    keys: dict[str, str] = {}
    known: dict[str, CompiledKernel] = {}
    if stored is not None:
        in_place = kernels_called_in_place(steps, offsets)
        for name, kernel in kernels.items():
            keys[name] = stored.key(
                name, kernel, in_place=name in in_place, decision=decisions.get(name)
            )
            found = stored.find(keys[name])
            if found is not None:
                known[name] = found
    missing = [name for name in kernels if name not in known]
    tell("schedule", 0, len(missing))
    scheduled = {}
    for name in missing:
        scheduled[name] = schedule_kernel(kernels[name], spec, decisions.get(name))
        tell("schedule", len(scheduled), len(missing))
    tell("build", 0, len(missing))
    built = build_objects(
        steps,
        offsets,
        scheduled,
        spec,
        lambda done: tell("build", done, len(missing)),
        known=None if stored is None else known,
    )
    if stored is not None and missing:
        for name, kernel in built.compiled.items():
            stored.keep(keys[name], kernel)
        stored.make_room()
    return built

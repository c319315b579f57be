"""Schedule the kernels of a step for a GPU, and write its launches as C tables."""

from collections.abc import Callable, Mapping, Sequence

from tvm import tirx

from pock_tvm.artifact.launch_tables import EntryLaunches, Image, Place, launch_tables
from pock_tvm.compilation.nvrtc import assemble
from pock_tvm.relay_passes.build_object import BuiltObjects, kernels_called_in_place
from pock_tvm.relay_passes.emit_entry_point import entry_symbol
from pock_tvm.relay_passes.step import KernelCall, Step
from pock_tvm.relay_passes.write_device_source import (
    CUDA_TYPES,
    METAL_TYPES,
    DeviceKernel,
    DeviceLaunch,
    write_device_kernel,
)
from pock_tvm.schedules import schedule_launches
from pock_tvm.targets import DeviceSpec, TargetSpec


def write_device_kernels(
    steps: Sequence[Step],
    offsets: Mapping[str, Mapping[str, int]],
    arena_bytes: int,
    kernels: Mapping[str, tirx.PrimFunc],
    spec: TargetSpec,
    tell: Callable[[str, int, int], None],
) -> BuiltObjects:
    """Return the C file with every launch of the entry points.

    Args:
        steps: entry points, in their final order.
        offsets: by step name, the offset of every tensor in its region.
        arena_bytes: of all tensors; the launches' workspace follows them.
        kernels: by name, as they come from the graph.
        spec: machine to compile for; it has a GPU.
        tell: called with (stage, done, total).
    """
    assert spec.device is not None
    target = spec.device.build()
    in_place = kernels_called_in_place(steps, offsets)
    written: dict[str, DeviceKernel] = {}
    for name, kernel in kernels.items():
        launches = schedule_launches(kernel, spec)
        written[name] = write_device_kernel(
            name, kernel, launches, target, in_place=name in in_place
        )
        tell("build", len(written), len(kernels))
    entries = [_entry(step, offsets[step.name], arena_bytes, written) for step in steps]
    every = [launch for kernel in written.values() for launch in kernel.launches]
    return BuiltObjects(
        objects=(),
        workspace_bytes_per_thread=0,
        sources={"pock_kernels.c": launch_tables(every, entries, _code(every, spec.device))},
        workspace_bytes=max((kernel.workspace_bytes for kernel in written.values()), default=0),
    )


def _code(launches: Sequence[DeviceLaunch], device: DeviceSpec) -> Sequence[str] | Image:
    """Return the kernels as the driver takes them: OpenCL's one by one, the others' together."""
    sources = [launch.source for launch in launches]
    kind = device.tvm_options["kind"]
    if kind == "metal":
        return [METAL_TYPES + "".join(sources)]
    if kind == "cuda":
        architecture = str(device.tvm_options["arch"])
        content = assemble(CUDA_TYPES + "".join(sources), architecture)
        return Image(content, int(architecture.removeprefix("sm_")))
    return sources


def _entry(
    step: Step,
    offsets: Mapping[str, int],
    arena_bytes: int,
    written: Mapping[str, DeviceKernel],
) -> EntryLaunches:
    rows = []
    for call in step.calls:
        places = _places(step, offsets, call)
        for launch in written[call.kernel].launches:
            arguments = tuple(
                ("arena", arena_bytes + a.workspace) if a.parameter is None else places[a.parameter]
                for a in launch.arguments
            )
            rows.append((launch.symbol, arguments))
    return EntryLaunches(step.name, entry_symbol(step.name), tuple(rows))


def _places(step: Step, offsets: Mapping[str, int], call: KernelCall) -> list[Place]:
    """Return where each parameter of a kernel lies in one call."""
    places = call.places[: len(call.reads)] if call.overwrites else call.places
    return [(step.tensors[name].region, offsets[name] + shift) for name, shift in places]

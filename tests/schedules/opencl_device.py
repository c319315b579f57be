"""Run kernels as the launches of a GPU, through whatever OpenCL driver is installed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyopencl
import pytest
from kernel_cases import _poison

from pock_tvm.relay_passes.write_device_source import DeviceKernel, write_device_kernel
from pock_tvm.schedules import schedule_launches
from pock_tvm.targets import get_target


def open_queue() -> Any:
    """Return a queue of the first device; skip where there is no driver."""
    try:
        devices = [d for p in pyopencl.get_platforms() for d in p.get_devices()]
    except pyopencl.LogicError:
        devices = []
    if not devices:
        pytest.skip("needs an OpenCL driver (Debian packages pocl-opencl-icd, ocl-icd-libopencl1)")
    return pyopencl.CommandQueue(pyopencl.Context(devices[:1]))


def device_kernel(func: Any, name: str = "k", *, in_place: bool = False) -> DeviceKernel:
    """Schedule a kernel and write its source."""
    spec = get_target("opencl")
    launches = schedule_launches(func, spec)
    return write_device_kernel(name, func, launches, spec.device.build(), in_place=in_place)


def run_launches(
    queue: Any,
    func: Any,
    inputs: Sequence[np.ndarray],
    shared: Mapping[int, int] | None = None,
) -> list[np.ndarray]:
    """Run a kernel over one arena and return its outputs.

    Args:
        queue: of the device.
        func: as it comes from the graph.
        inputs: for the first parameters; the others are outputs, full of NaN beforehand.
        shared: outputs that lie where an input lies, both by position.
    """
    shared = shared or {}
    outputs = [_poison([int(d) for d in p.shape], str(p.dtype)) for p in func.params[len(inputs) :]]
    arrays = run_over_arena(queue, func, [*inputs, *outputs], shared)
    return arrays[len(inputs) :]


def run_over_arena(
    queue: Any, func: Any, arrays: Sequence[np.ndarray], shared: Mapping[int, int]
) -> list[np.ndarray]:
    """Run a kernel with a value for each parameter; return what stands there after it."""
    made = device_kernel(func, in_place=bool(shared))
    starts, end = [], 0
    for position, array in enumerate(arrays):
        starts.append(starts[shared[position]] if position in shared else end)
        end += -(-max(array.nbytes, 1) // 64) * 64
    arena = np.full(end + made.workspace_bytes, 0xA5, np.uint8)
    for position, array in enumerate(arrays):
        if position not in shared:
            arena[starts[position] :][: array.nbytes] = array.reshape(-1).view(np.uint8)
    flags = pyopencl.mem_flags
    buffer = pyopencl.Buffer(queue.context, flags.READ_WRITE | flags.COPY_HOST_PTR, hostbuf=arena)
    program = pyopencl.Program(queue.context, "".join(x.source for x in made.launches)).build()
    for launch in made.launches:
        arguments: list[Any] = []
        for a in launch.arguments:
            start = end + a.workspace if a.parameter is None else starts[a.parameter]
            arguments += [buffer, np.uint64(start)]
        size = [groups * n for groups, n in zip(launch.groups, launch.threads, strict=True)]
        getattr(program, launch.symbol)(queue, size, launch.threads, *arguments)
    pyopencl.enqueue_copy(queue, arena, buffer)
    return [
        arena[start:][: array.nbytes].view(array.dtype).reshape(array.shape)
        for start, array in zip(starts, arrays, strict=True)
    ]

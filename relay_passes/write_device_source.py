"""The kernels of a GPU as source text, and what each launch takes.

An OpenCL kernel gets, for each tensor, the buffer of its region and where in it the tensor starts:

    __kernel void k(__global float* restrict x) { …
    __kernel void k(__global uchar *x_region, ulong x_start) {
      __global float *restrict x = (__global float *)(x_region + x_start); …

A buffer inside a buffer, OpenCL's own way, has to start at a multiple of up to 512 bytes. CUDA's
and Metal's kernels stay as they are; of their source, what stands before them is written once.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.ir import GlobalVar

from pock_tvm.relay_passes.emit_entry_point import kernel_symbol
from pock_tvm.relay_passes.keep_small_buffers_on_stack import buffer_bytes
from pock_tvm.relay_passes.pass_device_pointers import launch_size, lower_launches
from pock_tvm.relay_passes.step import align

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Argument:
    """A parameter of the kernel by its position, or a place in the kernel's workspace."""

    parameter: int | None
    workspace: int = 0
    """Bytes from the start of the workspace."""


@dataclass(frozen=True)
class DeviceLaunch:
    """One launch: its source, and all that the driver asks for."""

    symbol: str
    source: str
    arguments: tuple[Argument, ...]
    groups: Size
    threads: Size


@dataclass(frozen=True)
class DeviceKernel:
    """A kernel of the graph: launches, one after the other."""

    launches: tuple[DeviceLaunch, ...]
    workspace_bytes: int
    """What its launches keep for each other in memory."""


def write_device_kernel(
    name: str,
    kernel: tirx.PrimFunc,
    launches: Sequence[tirx.PrimFunc],
    target: tvm.target.Target,
    *,
    in_place: bool,
) -> DeviceKernel:
    """Lower the launches of a kernel and write their source.

    Args:
        name: of the kernel.
        kernel: whose parameters the launches take, by identity.
        launches: scheduled; what else they take is workspace.
        target: of the device.
        in_place: two arguments of the kernel may be the same memory.
    """
    places: list[tuple[tirx.Var, int]] = []
    end = 0
    for launch in launches:
        for p in launch.params:
            known = (*kernel.params, *(buffer for buffer, _ in places))
            if not any(p.same_as(k) for k in known):
                places.append((p, end))
                end += align(buffer_bytes(p))
    written = []
    for i, launch in enumerate(launches):
        symbol = f"{kernel_symbol(name)}_{i}"
        func = launch.with_attr("global_symbol", symbol).with_attr("target", target)
        func = func.with_attr("tirx.noalias", not in_place)
        mod = lower_launches()(tvm.IRModule({GlobalVar(symbol): func}))
        groups, threads = launch_size(mod[symbol])
        source = tvm.get_global_func(f"target.build.{target.kind.name}")(mod, target)
        arguments = tuple(_argument(p, kernel, places) for p in launch.params)
        text = _FORMS[target.kind.name](str(source.inspect_source()), symbol)
        written.append(DeviceLaunch(symbol, text, arguments, groups, threads))
    return DeviceKernel(tuple(written), end)


def _argument(
    p: tirx.Var, kernel: tirx.PrimFunc, places: Sequence[tuple[tirx.Var, int]]
) -> Argument:
    for position, known in enumerate(kernel.params):
        if p.same_as(known):
            return Argument(position)
    return Argument(None, next(start for buffer, start in places if p.same_as(buffer)))


def _with_regions(source: str, symbol: str) -> str:
    """Let an OpenCL kernel take a region and a start for each of its tensors."""
    head = re.compile(rf"__kernel void {symbol}\(([^)]*)\) {{\n")
    found = head.search(source)
    assert found, f"no kernel {symbol} in its source"
    parameters, pointers = [], []
    for parameter in found.group(1).split(", "):
        matched = re.fullmatch(r"(__global \w+\*(?: restrict)?) (\w+)", parameter)
        assert matched, f"{symbol} takes {parameter}"
        kind, name = matched.groups()
        parameters.append(f"__global uchar* {name}_region, ulong {name}_start")
        pointer = kind.removesuffix(" restrict")
        pointers.append(f"  {kind} {name} = ({pointer})({name}_region + {name}_start);\n")
    start = f"__kernel void {symbol}({', '.join(parameters)}) {{\n{''.join(pointers)}"
    before = re.sub(rf"__kernel void {symbol}\([^)]*\);\n", "", source[: found.start()])
    return before + start + source[found.end() :]


CUDA_TYPES = """typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
"""
"""What stands before CUDA kernels; TVM's own includes files that may be missing."""


def _definition(source: str, symbol: str) -> str:
    """Return a CUDA kernel without its declaration and without the preamble."""
    head = re.compile(rf'^extern "C" __global__ void [^\n]*\b{symbol}\([^)]*\) {{\n', re.MULTILINE)
    found = head.search(source)
    assert found, f"no kernel {symbol} in its source"
    return source[found.start() :]


METAL_TYPES = """#include <metal_stdlib>
using namespace metal;
"""
"""What stands before Metal kernels."""


def _kernel(source: str, symbol: str) -> str:
    """Return a Metal kernel without what stands before it."""
    found = re.search(rf"^kernel void {symbol}\(", source, re.MULTILINE)
    assert found, f"no kernel {symbol} in its source"
    return source[found.start() :]


_FORMS: dict[str, Callable[[str, str], str]] = {
    "cuda": _definition,
    "metal": _kernel,
    "opencl": _with_regions,
}
"""What is made of the source that TVM writes, by kind of target."""

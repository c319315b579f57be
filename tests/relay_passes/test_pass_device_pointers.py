"""Launches over pointers: their parameters, their size, and the OpenCL source that they become."""

import re

import tvm
from tvm import te, tirx
from tvm.ir import GlobalVar

from pock_tvm.relay_passes.pass_device_pointers import (
    PassDevicePointers,
    launch_size,
    lower_launches,
)
from pock_tvm.relay_passes.write_device_source import Argument, write_device_kernel
from pock_tvm.schedules import schedule_launches
from pock_tvm.targets import get_target

SPEC = get_target("opencl")


def softmax_kernel():
    x = te.placeholder((100, 7), name="x")
    k = te.reduce_axis((0, 7))
    total = te.compute((100,), lambda i: te.sum(te.exp(x[i, k]), axis=k), name="total")
    y = te.compute((100, 7), lambda i, j: te.exp(x[i, j]) / total[i], name="y")
    return te.create_prim_func([x, y])


def test_parameters_become_pointers_and_a_bool_a_byte():
    x = te.placeholder((5,), name="x")
    y = te.compute((5,), lambda i: x[i] > 0.0, name="y")
    func = te.create_prim_func([x, y])
    mod = PassDevicePointers()(tvm.IRModule({"main": func}))
    types = [str(p.ty.element_type) for p in mod["main"].params]
    assert types == ["float32", "int8"]
    assert int(mod["main"].attrs["calling_conv"]) == 2  # a kernel that is launched
    assert all(isinstance(p, tirx.Var) for p in func.params)


def test_the_size_of_a_launch_covers_all_points():
    first, second = schedule_launches(softmax_kernel(), SPEC)
    target = SPEC.device.build()
    sizes = []
    for launch in (first, second):
        func = launch.with_attr("target", target)
        sizes.append(launch_size(lower_launches()(tvm.IRModule({GlobalVar("k"): func}))["k"]))
    assert sizes == [((2, 1, 1), (64, 1, 1)), ((11, 1, 1), (64, 1, 1))]


def test_launches_share_a_workspace_and_take_regions():
    kernel = softmax_kernel()
    made = write_device_kernel(
        "softmax", kernel, schedule_launches(kernel, SPEC), SPEC.device.build(), in_place=False
    )
    total, normed = made.launches
    assert made.workspace_bytes == 448  # 100 sums, at a multiple of 64 bytes
    assert total.arguments == (Argument(0), Argument(None, 0))
    assert set(normed.arguments) == {Argument(0), Argument(1), Argument(None, 0)}
    assert [launch.symbol for launch in made.launches] == [
        "pock_kernel_softmax_0",
        "pock_kernel_softmax_1",
    ]
    for launch in made.launches:
        (head,) = re.findall(rf"__kernel void {launch.symbol}\((.*)\) {{", launch.source)
        assert head.count("__global uchar* ") == len(launch.arguments)
        assert head.count("ulong ") == len(launch.arguments)
        assert launch.source.count("restrict") == len(launch.arguments)


def test_what_may_share_memory_is_not_restricted():
    kernel = softmax_kernel()
    launches = schedule_launches(kernel, SPEC)
    made = write_device_kernel("k", kernel, launches, SPEC.device.build(), in_place=True)
    assert not any("restrict" in launch.source for launch in made.launches)

"""GPUs behind an OpenCL driver, which is opened when a session starts; any version from 1.2 on."""

import platform
from dataclasses import replace

from pock_tvm.targets.base import DeviceSpec, TargetSpec

_DEVICE = DeviceSpec(
    tvm_options={"kind": "opencl", "max_num_threads": 256},
    group_threads=64,
    busy_threads=4096,
    shared_bytes=16 * 1024,
)
"""What every full-profile device has: 1 work-group of 256 on any that is in use, 32 KB shared but
16 KB on Mali's older drivers (OpenCL 1.2, table 4.3, and the drivers' own figures)."""


def _board(name: str, device: DeviceSpec, source: str) -> TargetSpec:
    """Return a 64-bit Arm board under a Linux with glibc; its processor only drives the GPU."""
    return TargetSpec(
        name=name,
        tvm_options={"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "generic"},
        zig_target="aarch64-linux-gnu.2.28",
        core="generic",
        device=device,
        vector_bits=128,
        vector_registers=32,
        l1_bytes=32 * 1024,
        l2_bytes=256 * 1024,
        cores=4,
        source=source,
    )


SPECS = (
    TargetSpec(
        name="opencl",
        tvm_options={
            "kind": "llvm",
            "mtriple": f"{platform.machine()}-linux-gnu",
            "mcpu": {"x86_64": "x86-64"}.get(platform.machine(), "generic"),
        },
        zig_target=f"{platform.machine()}-linux-gnu.2.28",
        core="opencl",
        device=_DEVICE,
        vector_bits=128,
        vector_registers=16,
        l1_bytes=16 * 1024,
        l2_bytes=256 * 1024,
        cores=1,
        source="OpenCL 1.2 specification, table 4.3: the least that a device has",
    ),
    _board(
        "mali",
        replace(_DEVICE, busy_threads=4 * 1024),
        "Arm Mali GPU OpenCL Developer Guide: work-groups of 64 as a start; Mali-G610 MP4 of the "
        "RK3588: four shader cores, each with 1024 threads under way; shared memory as OpenCL asks",
    ),
    _board(
        "adreno",
        replace(_DEVICE, group_threads=128, busy_threads=8 * 1024, shared_bytes=32 * 1024),
        "Qualcomm Snapdragon Mobile Platform OpenCL General Programming and Optimization: "
        "work-groups of 128 as a start, 32 KB of local memory",
    ),
)

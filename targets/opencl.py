"""GPUs behind an OpenCL driver, which is opened when a session starts; any version from 1.2 on."""

import platform

from pock_tvm.targets.base import DeviceSpec, TargetSpec

_DEVICE = DeviceSpec(
    tvm_options={"kind": "opencl", "max_num_threads": 256},
    group_threads=64,
    busy_threads=4096,
    shared_bytes=16 * 1024,
)
"""What every full-profile device has: 1 work-group of 256 on any that is in use, 32 KB shared but
16 KB on Mali's older drivers (OpenCL 1.2, table 4.3, and the drivers' own figures)."""

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
)

"""x86-64 workstations: the machine at hand, and the psABI levels."""

import functools
import os
import platform

import tvm_ffi

from pock_tvm.targets.base import TargetSpec

_VECTOR_UNITS = (("avx512f", 512, 32), ("avx2", 256, 16), ("sse2", 128, 16))
"""Feature, register width in bits, architectural registers; widest first (Intel SDM, volume 1)."""

SPECS = tuple(
    TargetSpec(
        name=f"x86-64-{level}",
        tvm_options={"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": f"x86-64-{level}"},
        zig_target="x86_64-linux-musl",
        zig_options=(f"-mcpu=x86_64_{level}", "-static"),
        emulator=("qemu-x86_64", "-cpu", "max"),
        core=f"x86-64-{level}",
        vector_bits=bits,
        vector_registers=registers,
        l1_bytes=32 * 1024,
        l2_bytes=256 * 1024,
        cores=4,
        source="x86-64 psABI microarchitecture levels; caches of Skylake client, Intel SDM",
    )
    for level, bits, registers in (("v2", 128, 16), ("v3", 256, 16), ("v4", 512, 32))
)


@functools.cache
def host_spec() -> TargetSpec:
    """Describe the machine that this process runs on, as LLVM detects it."""
    cpu = str(tvm_ffi.get_global_func("target.llvm_get_system_cpu")())
    options = {"kind": "llvm", "mtriple": _process_triple(), "mcpu": cpu}
    has_feature = tvm_ffi.get_global_func("target.llvm_cpu_has_feature")
    bits, registers = 128, 32  # what every aarch64 core has
    if platform.machine() == "x86_64":
        from tvm.target import Target

        target = Target(options)
        bits, registers = next(
            (bits, count) for name, bits, count in _VECTOR_UNITS if has_feature(name, target)
        )
    return TargetSpec(
        name="host",
        tvm_options=options,
        zig_target=f"{platform.machine()}-linux-gnu.2.28",
        core=cpu,
        vector_bits=bits,
        vector_registers=registers,
        l1_bytes=32 * 1024,
        l2_bytes=512 * 1024,
        cores=os.cpu_count() or 1,
        source="detected by LLVM; the cache sizes are the least of today's desktop cores",
    )


def _process_triple() -> str:
    return f"{platform.machine()}-linux-gnu"

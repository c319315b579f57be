"""Arm boards."""

from pock_tvm.targets.base import TargetSpec

SPECS = (
    TargetSpec(
        name="raspberry-pi-4",
        tvm_options={
            "kind": "llvm",
            "mtriple": "aarch64-linux-gnu",
            "mcpu": "cortex-a72",
            "mattr": ["+neon"],
        },
        zig_target="aarch64-linux-musl",
        zig_options=("-mcpu=cortex_a72", "-static"),
        emulator=("qemu-aarch64",),
        core="cortex-a72",
        vector_bits=128,
        vector_registers=32,
        l1_bytes=32 * 1024,
        l2_bytes=1024 * 1024 // 4,
        cores=4,
        source="Arm Cortex-A72 TRM (32 KB D, 32 NEON registers); BCM2711: 1 MB L2 for 4 cores",
    ),
)

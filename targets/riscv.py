"""RISC-V boards without vectors."""

from pock_tvm.targets.base import TargetSpec

SPECS = (
    TargetSpec(
        name="riscv64",
        tvm_options={
            "kind": "llvm",
            "mtriple": "riscv64-linux-gnu",
            "mcpu": "generic-rv64",
            "mattr": ["+m", "+a", "+f", "+d", "+c"],
            "mabi": "lp64d",
        },
        zig_target="riscv64-linux-musl",
        zig_options=("-static",),
        emulator=("qemu-riscv64",),
        core="rv64gc",
        vector_bits=32,
        vector_registers=32,
        l1_bytes=32 * 1024,
        l2_bytes=2 * 1024 * 1024 // 4,
        cores=4,
        source="RISC-V unprivileged ISA, RV64GC (32 float registers); caches of a SiFive U74: "
        "32 KB D, 2 MB L2 for 4 cores",
    ),
)

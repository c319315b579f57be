"""Microcontrollers without an operating system."""

from pock_tvm.targets.base import TargetSpec

SPECS = (
    TargetSpec(
        name="cortex-m7",
        tvm_options={
            "kind": "llvm",
            # All four parts: with three LLVM misses the ABI, and calls for float64 as none answers.
            "mtriple": "thumbv7em-unknown-none-eabihf",
            "mcpu": "cortex-m7",
            # Parts with and without double precision exist; what runs on the smaller runs on both.
            "mattr": ["-fp64"],
            "mfloat-abi": "hard",
            "vector-width": 32,
        },
        zig_target="thumb-freestanding-eabihf",
        zig_options=("-mcpu=cortex_m7-fp64",),
        core="cortex-m7",
        vector_bits=32,
        vector_registers=32,
        l1_bytes=16 * 1024,
        l2_bytes=32 * 1024,
        cores=1,
        source="Arm Cortex-M7 TRM (FPv5, 32 single-precision registers); STM32H743: 16 KB D; there "
        "is no level-2 cache, a panel may take 16 KB of the fast memory beside the core",
    ),
)

"""Apple's GPUs, through Metal, which is part of the system."""

from pock_tvm.targets.base import DeviceSpec, TargetSpec

SPECS = (
    TargetSpec(
        name="apple-m1-metal",
        tvm_options={"kind": "llvm", "mtriple": "arm64-apple-macos11.0", "mcpu": "apple-a14"},
        zig_target="aarch64-macos.11.0",
        core="apple-m1",
        device=DeviceSpec(
            tvm_options={"kind": "metal", "max_num_threads": 1024},
            group_threads=128,
            busy_threads=16 * 1024,
            shared_bytes=32 * 1024,
        ),
        vector_bits=128,
        vector_registers=32,
        l1_bytes=128 * 1024,
        l2_bytes=3 * 1024 * 1024,
        cores=4,
        source="Apple Metal Feature Set Tables, family Apple7: 1024 threads and 32 KB in a group; "
        "eight cores of 128 lanes (Apple, M1), some sixteen threads for each lane",
    ),
)

"""Raspberry Pi boards.

The Zero is the Zero 2 W under the 32-bit system that it is sold with: the first Zero is an ARMv6
without vectors. What is compiled for it runs on every ARMv7 with NEON and VFPv4 (Pi 2, 3, 4 too).
"""

from pock_tvm.targets.base import TargetSpec


def _board(
    name: str, core: str, *, l1_bytes: int, l2_bytes: int, source: str, emulator: tuple[str, ...]
) -> TargetSpec:
    """Describe a board of four 64-bit cores."""
    return TargetSpec(
        name=name,
        tvm_options={
            "kind": "llvm",
            "mtriple": "aarch64-linux-gnu",
            "mcpu": core,
            "mattr": ["+neon"],
        },
        zig_target="aarch64-linux-musl",
        zig_options=(f"-mcpu={core.replace('-', '_')}", "-static"),
        emulator=emulator,
        core=core,
        vector_bits=128,
        vector_registers=32,
        l1_bytes=l1_bytes,
        l2_bytes=l2_bytes,
        cores=4,
        source=source,
    )


SPECS = (
    _board(
        "raspberry-pi-3",
        "cortex-a53",
        l1_bytes=32 * 1024,
        l2_bytes=512 * 1024 // 4,
        source="Arm Cortex-A53 TRM (32 NEON registers); BCM2837: 32 KB D, 512 KB L2 for 4 cores",
        emulator=("qemu-aarch64",),
    ),
    _board(
        "raspberry-pi-4",
        "cortex-a72",
        l1_bytes=32 * 1024,
        l2_bytes=1024 * 1024 // 4,
        source="Arm Cortex-A72 TRM (32 KB D, 32 NEON registers); BCM2711: 1 MB L2 for 4 cores",
        emulator=("qemu-aarch64",),
    ),
    _board(
        "raspberry-pi-5",
        "cortex-a76",
        l1_bytes=64 * 1024,
        l2_bytes=512 * 1024,
        source="Arm Cortex-A76 TRM (64 KB D, 32 NEON registers); BCM2712: 512 KB L2 for each core",
        emulator=("qemu-aarch64", "-cpu", "max"),
    ),
    TargetSpec(
        name="raspberry-pi-zero",
        tvm_options={
            "kind": "llvm",
            "mtriple": "armv7a-linux-gnueabihf",
            "mcpu": "cortex-a7",
            "mattr": ["+neon", "+vfp4"],
            "mfloat-abi": "hard",
        },
        zig_target="arm-linux-musleabihf",
        zig_options=("-mcpu=cortex_a7", "-static"),
        emulator=("qemu-arm",),
        core="cortex-a7",
        vector_bits=128,
        vector_registers=16,
        l1_bytes=32 * 1024,
        l2_bytes=512 * 1024 // 4,
        cores=4,
        source="Zero 2 W, 32-bit system. RP3A0: BCM2710A1, 4 Cortex-A53, 512 KB L2; "
        "Arm ARM v7-A: 16 registers of 128 bits",
    ),
)

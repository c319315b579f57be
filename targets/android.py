"""Android phones, their CPU; an executable needs nothing of the system but its kernel."""

from pock_tvm.targets.base import TargetSpec


def _phone(name: str, mcpu: str, *, l1_bytes: int, l2_bytes: int, source: str) -> TargetSpec:
    return TargetSpec(
        name=name,
        # The triple matters to LLVM: Android keeps x18 to itself.
        tvm_options={
            "kind": "llvm",
            "mtriple": "aarch64-linux-android",
            "mcpu": mcpu,
            "mattr": ["+neon"],
        },
        zig_target="aarch64-linux-musl",
        zig_options=("-static",),
        emulator=("qemu-aarch64", "-cpu", "max"),
        core=mcpu if mcpu != "generic" else "armv8-a",
        vector_bits=128,
        vector_registers=32,
        l1_bytes=l1_bytes,
        l2_bytes=l2_bytes,
        cores=4,
        source=source,
    )


SPECS = (
    _phone(
        "android-arm64",
        "generic",
        l1_bytes=32 * 1024,
        l2_bytes=128 * 1024,
        source="Android NDK ABI arm64-v8a (Armv8.0 with NEON); caches of a small Cortex-A55",
    ),
    # Cortex-X1 stands for all of them: later cores have SVE2, which Snapdragons do not offer.
    _phone(
        "snapdragon-8",
        "cortex-x1",
        l1_bytes=64 * 1024,
        l2_bytes=512 * 1024,
        source="Arm Cortex-X1 and Cortex-A78 TRM; Snapdragon 888: 512 KB L2 for each A78, "
        "4 fast cores",
    ),
)

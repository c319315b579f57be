"""Apple's processors, their CPU: Mach-O for macOS 11 or newer, signed ad hoc by the linker."""

from pock_tvm.targets.base import TargetSpec

# LLVM lists these cores by the telephones that had them first.
SPECS = tuple(
    TargetSpec(
        name=name,
        tvm_options={"kind": "llvm", "mtriple": "arm64-apple-macos11.0", "mcpu": mcpu},
        zig_target="aarch64-macos.11.0",
        core=name,
        vector_bits=128,
        vector_registers=32,
        l1_bytes=128 * 1024,
        l2_bytes=l2_mebibytes * 1024 * 1024 // 4,
        cores=4,
        source=f"sysctl hw.perflevel0 of an {name[6:].upper()}: 4 fast cores, 128 KB D each, "
        f"{l2_mebibytes} MB L2 for the 4",
    )
    for name, mcpu, l2_mebibytes in (("apple-m1", "apple-a14", 12), ("apple-m2", "apple-a15", 16))
)

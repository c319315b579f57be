"""Hexagon DSPs under Linux, scalar float32: their float vectors have no emulator to be tried on."""

from pock_tvm.targets.base import TargetSpec

SPECS = tuple(
    TargetSpec(
        name=f"hexagon-{version}",
        # kind hexagon cannot make the targets of whole graphs; kind llvm emits the same code.
        tvm_options={
            "kind": "llvm",
            "mtriple": "hexagon-unknown-linux-musl",
            "mcpu": f"hexagon{version}",
            # Vectors of integers, as all versions have them.
            "mattr": ["+hvxv66", "+hvx-length128b"],
        },
        zig_target="hexagon-linux-musl",
        zig_options=("-mcpu=hexagonv66", "-static"),
        emulator=("qemu-hexagon", "-cpu", "v67"),
        core=f"hexagon{version}",
        vector_bits=32,
        vector_registers=32,
        l1_bytes=16 * 1024,
        l2_bytes=128 * 1024,
        cores=4,
        source=f"Hexagon {version.upper()} Programmer's Reference Manual: 32 registers of 32 bits, "
        "float included; cache sizes are not published, these are assumed small",
    )
    for version in ("v66", "v68", "v73")
)

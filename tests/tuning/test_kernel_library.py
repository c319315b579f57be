"""A kernel's library is for the machine that it is compiled for, and needs no library of ours."""

import pytest
from products import source

from pock_tvm.targets import get_target
from pock_tvm.tuning.kernel_library import kernel_library

ELF, MACH_O = b"\x7fELF", b"\xcf\xfa\xed\xfe"
AARCH64, ARM, RISCV = 183, 40, 243


@pytest.mark.parametrize(
    "target,machine",
    [
        ("raspberry-pi-4", AARCH64),
        ("android-arm64", AARCH64),
        ("raspberry-pi-zero", ARM),
        ("riscv64", RISCV),
    ],
)
def test_libraries_for_other_machines(target, machine):
    raw = kernel_library("mine", source(13, 21, 40), get_target(target))
    assert raw[:4] == ELF
    assert int.from_bytes(raw[16:18], "little") == 3  # ET_DYN: a shared object
    assert int.from_bytes(raw[18:20], "little") == machine
    assert b"pock_kernel_mine" in raw
    assert b"__tvm_ffi_run" in raw


def test_a_library_for_a_mac():
    raw = kernel_library("mine", source(13, 21, 40), get_target("apple-m1"))
    assert raw[:4] == MACH_O
    assert int.from_bytes(raw[12:16], "little") == 6  # MH_DYLIB
    assert b"__tvm_ffi_run" in raw

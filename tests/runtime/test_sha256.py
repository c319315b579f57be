"""The hash of every start, by the processor's instructions and without them."""

import hashlib
import platform
import shutil
import sys

import pytest
from building import HERE, RUNTIME, call

NAMES = ("pock_sha256.c", "pock_sha256_fast.c", "pock_machine.c")


@pytest.mark.parametrize(
    ("machine", "runner"),
    [
        ("x86_64", ()),
        ("x86_64", ("qemu-x86_64", "-cpu", "Nehalem")),  # has no such instructions
        ("aarch64", ("qemu-aarch64", "-cpu", "max")),
    ],
)
def test_digests_are_those_of_python(machine, runner, tmp_path):
    if runner and not shutil.which(runner[0]):
        pytest.skip(f"needs {runner[0]}")
    if not runner and platform.machine() != machine:
        pytest.skip(f"needs {machine}")
    command = (sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-musl")
    files = [HERE / "sha256_driver.c", *(RUNTIME / name for name in NAMES)]
    output = tmp_path / "driver"
    done = call(*command, "-static", "-std=c11", "-O2", f"-I{RUNTIME}", *files, "-o", output)
    assert done.returncode == 0, done.stderr
    pattern = bytes((i * i + 7) % 256 for i in range(200))
    expected = [hashlib.sha256(pattern[:length]).hexdigest() for length in range(201)]
    assert call(*runner, output).stdout.split() == expected

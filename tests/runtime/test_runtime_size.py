"""The runtime stays small: what every artifact carries besides its kernels."""

import struct
import sys

import pytest
from building import RUNTIME, call

from pock_tvm.artifact.link import LIBRARY_SOURCES

MOST_BYTES = 40 * 1024
ALLOCATED = 2  # SHF_ALLOC: the section takes memory when the program runs


def loaded_bytes(path):
    """Sum up the sections of a 64-bit ELF file that are loaded (ELF-64 Object File Format 1.5)."""
    raw = path.read_bytes()
    assert raw[:5] == b"\x7fELF\x02"
    (at,) = struct.unpack_from("<Q", raw, 40)
    size, count = struct.unpack_from("<HH", raw, 58)
    headers = (struct.unpack_from("<IIQQQQ", raw, at + i * size) for i in range(count))
    return sum(nbytes for _, _, flags, _, _, nbytes in headers if flags & ALLOCATED)


@pytest.mark.parametrize("target", ["aarch64-linux-musl", "x86_64-linux-musl"])
def test_the_runtime_takes_at_most_40_kb(target, tmp_path):
    command = (sys.executable, "-m", "ziglang", "cc", "-target", target)
    sources = [RUNTIME / name for name in LIBRARY_SOURCES]
    done = call(*command, "-std=c11", "-O2", "-g0", "-c", *sources, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    total = sum(map(loaded_bytes, tmp_path.glob("*.o")))  # zig makes one of them all
    assert MOST_BYTES / 4 < total <= MOST_BYTES

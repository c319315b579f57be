"""What is linked for a Mac is what macOS 11 on Apple's processors starts."""

import struct

import fake
import pytest

from pock_tvm.targets import get_target

MAGIC_64, CPU_ARM64, EXECUTE = 0xFEEDFACF, 0x0100000C, 2
BUILD_VERSION, CODE_SIGNATURE, MAIN, LOAD_DYLIB = 0x32, 0x1D, 0x80000028, 0xC
MACOS, ADHOC = 1, 0x2
SUPER_BLOB, CODE_DIRECTORY = 0xFADE0CC0, 0xFADE0C02


def load_commands(raw):
    """Yield (command, its bytes) of a 64-bit Mach-O file."""
    count = struct.unpack_from("<I", raw, 16)[0]
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", raw, at)
        yield command, raw[at : at + size]
        at += size


@pytest.fixture(scope="module")
def executable(tmp_path_factory):
    spec = get_target("apple-m1")
    triple = spec.tvm_options["mtriple"]
    machine = fake.Machine("apple-m1", spec.zig_target, spec.zig_options, triple, spec.zig_target)
    folder = tmp_path_factory.mktemp("mac") / "net"
    artifact = fake.write(folder, machine, fake.description(), executable=True)
    return artifact.executable.read_bytes()


def test_it_is_an_executable_for_arm64(executable):
    magic, cpu, _, kind = struct.unpack_from("<IIII", executable)
    assert (magic, cpu, kind) == (MAGIC_64, CPU_ARM64, EXECUTE)
    assert MAIN in dict(load_commands(executable))


def test_it_starts_from_macos_11_on(executable):
    platform, least = struct.unpack_from("<II", dict(load_commands(executable))[BUILD_VERSION], 8)
    assert (platform, least) == (MACOS, 11 << 16)


def test_it_needs_nothing_but_the_system(executable):
    libraries = [body for command, body in load_commands(executable) if command == LOAD_DYLIB]
    names = [body[struct.unpack_from("<I", body, 8)[0] :].rstrip(b"\0") for body in libraries]
    assert names == [b"/usr/lib/libSystem.B.dylib"]


def test_it_is_signed_ad_hoc(executable):
    """Arm64 Macs kill what has no signature; the fields are big-endian."""
    offset, size = struct.unpack_from("<II", dict(load_commands(executable))[CODE_SIGNATURE], 8)
    blob = executable[offset : offset + size]
    magic, _, count = struct.unpack_from(">III", blob)
    assert magic == SUPER_BLOB
    slots = [struct.unpack_from(">II", blob, 12 + 8 * i)[1] for i in range(count)]
    flags = {
        struct.unpack_from(">I", blob, at)[0]: struct.unpack_from(">I", blob, at + 12)[0]
        for at in slots
    }
    assert flags[CODE_DIRECTORY] & ADHOC

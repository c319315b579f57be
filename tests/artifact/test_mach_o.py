"""What is linked for a Mac is what macOS 11 on Apple's processors starts."""

import struct

import fake
import pytest

from pock_tvm.artifact.link_shared import public_names

MAGIC_64, CPU_ARM64, EXECUTE, LIBRARY = 0xFEEDFACF, 0x0100000C, 2, 6
BUILD_VERSION, CODE_SIGNATURE, MAIN, LOAD_DYLIB = 0x32, 0x1D, 0x80000028, 0xC
LINKERS_OWN = {"__mh_dylib_header", "___dso_handle"}
"""Zig's linker adds the header's address under both; nothing binds to them across libraries."""
ID_DYLIB, DYLD_INFO, EXPORTS_TRIE = 0xD, 0x80000022, 0x80000033
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


def names_in_trie(trie, at=0, prefix=""):
    """Yield what a loader finds by name: a node is what it stands for, then its edges."""

    def number(at):
        value = shift = 0
        while True:
            value |= (trie[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not trie[at - 1] & 0x80:
                return value, at

    terminal, at = number(at)
    if terminal:
        yield prefix
    at += terminal
    edges, at = trie[at], at + 1
    for _ in range(edges):
        end = trie.index(b"\0", at)
        child, after = number(end + 1)
        yield from names_in_trie(trie, child, prefix + trie[at:end].decode())
        at = after


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    machine = fake.machine_of("apple-m1")
    folder = tmp_path_factory.mktemp("mac") / "net"
    return fake.write(folder, machine, executable=True, library=True)


@pytest.fixture(scope="module")
def executable(artifact):
    return artifact.executable.read_bytes()


@pytest.fixture(scope="module")
def library(artifact):
    assert artifact.library.name == "libpock_model.dylib"
    return artifact.library.read_bytes()


@pytest.fixture(params=["executable", "library"])
def binary(request):
    return request.getfixturevalue(request.param)


def test_it_is_an_executable_for_arm64(executable):
    magic, cpu, _, kind = struct.unpack_from("<IIII", executable)
    assert (magic, cpu, kind) == (MAGIC_64, CPU_ARM64, EXECUTE)
    assert MAIN in dict(load_commands(executable))


def test_the_library_is_found_beside_the_application(library):
    magic, cpu, _, kind = struct.unpack_from("<IIII", library)
    assert (magic, cpu, kind) == (MAGIC_64, CPU_ARM64, LIBRARY)
    body = dict(load_commands(library))[ID_DYLIB]
    name = body[struct.unpack_from("<I", body, 8)[0] :].rstrip(b"\0")
    assert name == b"@rpath/libpock_model.dylib"


def test_the_library_exports_the_c_api_and_nothing_else(library):
    commands = dict(load_commands(library))
    if EXPORTS_TRIE in commands:
        (start,) = struct.unpack_from("<I", commands[EXPORTS_TRIE], 8)
    else:
        (start,) = struct.unpack_from("<I", commands[DYLD_INFO], 40)
    exported = set(names_in_trie(library[start:]))
    assert exported - LINKERS_OWN == {f"_{name}" for name in public_names()}


def test_it_starts_from_macos_11_on(binary):
    platform, least = struct.unpack_from("<II", dict(load_commands(binary))[BUILD_VERSION], 8)
    assert (platform, least) == (MACOS, 11 << 16)


def test_it_needs_nothing_but_the_system(binary):
    libraries = [body for command, body in load_commands(binary) if command == LOAD_DYLIB]
    names = [body[struct.unpack_from("<I", body, 8)[0] :].rstrip(b"\0") for body in libraries]
    assert names == [b"/usr/lib/libSystem.B.dylib"]


def test_it_is_signed_ad_hoc(binary):
    """Arm64 Macs kill what has no signature; the fields are big-endian."""
    offset, size = struct.unpack_from("<II", dict(load_commands(binary))[CODE_SIGNATURE], 8)
    blob = binary[offset : offset + size]
    magic, _, count = struct.unpack_from(">III", blob)
    assert magic == SUPER_BLOB
    slots = [struct.unpack_from(">II", blob, 12 + 8 * i)[1] for i in range(count)]
    flags = {
        struct.unpack_from(">I", blob, at)[0]: struct.unpack_from(">I", blob, at + 12)[0]
        for at in slots
    }
    assert flags[CODE_DIRECTORY] & ADHOC

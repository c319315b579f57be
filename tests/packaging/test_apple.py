"""The Swift package: what a Mac's linker would find in it. No Swift compiler runs here."""

import plistlib
import re
import sys

import fake
import pytest
from building import call

from pock_tvm.artifact.link import RUNTIME
from pock_tvm.artifact.link_shared import public_names
from pock_tvm.packaging import package


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("apple")
    made = fake.write(place / "net", fake.machine_of("apple-m1"))
    package(made.directory, place / "out", "apple")
    return place / "out"


def test_the_framework_holds_what_its_list_names(folder):
    framework = folder / "CPockModel.xcframework"
    with (framework / "Info.plist").open("rb") as file:
        (about,) = plistlib.load(file)["AvailableLibraries"]
    place = framework / about["LibraryIdentifier"]
    assert (place / about["LibraryPath"]).read_bytes()[:8] == b"!<arch>\n"
    headers = place / about["HeadersPath"]
    named = re.findall(r'header "(.*)"', (headers / "module.modulemap").read_text())
    assert {"module.modulemap", *named} == {path.name for path in headers.iterdir()}


def test_a_program_for_macs_links_with_it(folder, tmp_path):
    """Each function of the header is there, for macOS 11 on Arm."""
    calls = "".join(f"(void (*)(void)){name}, " for name in public_names())
    source = tmp_path / "all.c"
    source.write_text(
        f'#include "pock.h"\nvoid (*volatile all[])(void) = {{{calls}}};\n'
        "int main(void) { return !all[0]; }\n"
    )
    place = folder / "CPockModel.xcframework" / "macos-arm64"
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-macos.11.0")
    words = (source, f"-I{place / 'Headers'}", place / "libpock_model.a", "-o", tmp_path / "all")
    done = call(*zig, *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "all").read_bytes()[:4] == b"\xcf\xfa\xed\xfe"


def test_the_swift_class_calls_functions_that_exist(folder):
    text = (folder / "Sources" / "PockModel" / "PockModel.swift").read_text()
    called = set(re.findall(r"\b(pock_\w+)\(", text)) - {"pock_setup"}
    assert len(called) > 10
    assert called <= set(public_names())
    fields = set(re.findall(r"\bsetup\.(\w+) =", text))
    header = (RUNTIME / "pock.h").read_text()
    struct = header[: header.index("} pock_setup;")].rpartition("typedef struct")[2]
    assert fields <= set(re.findall(r"(\w+);", struct))
    assert (folder / "Sources" / "PockModel" / "pock_model" / "weights.safetensors").exists()

"""The shared libraries for other systems export the C API, and need what every such system has."""

import elf_reader
import fake
import pytest

from pock_tvm.artifact.link_shared import library_name, public_names
from pock_tvm.targets import target_specs

AARCH64 = 183  # EM_AARCH64
TARGETS = ("raspberry-pi-4", "android-arm64")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libraries")
    made = {
        name: fake.write(folder / name, fake.machine_of(name), library=True) for name in TARGETS
    }
    return {name: elf_reader.read_library(a.library.read_bytes()) for name, a in made.items()}


@pytest.mark.parametrize("target", TARGETS)
def test_they_export_the_c_api_and_nothing_else(libraries, target):
    library = libraries[target]
    assert library.defined == set(public_names())
    assert (library.machine, library.soname) == (AARCH64, "libpock_model.so")


def test_android_loads_it(libraries):
    """Its own C library by Android's names, pages of 16 KiB, and no errno but bionic's."""
    library = libraries["android-arm64"]
    assert library.needed == ["libc.so", "libm.so", "libdl.so"]
    assert set(library.alignments) == {16 * 1024}
    assert "__errno" in library.undefined
    # Names of musl or glibc that bionic lacks.
    assert not library.undefined & {"__errno_location", "bcmp", "__isoc99_sscanf", "__libc_single"}


def test_linux_has_a_c_library_by_its_own_name(libraries):
    needed = libraries["raspberry-pi-4"].needed
    assert "libc.so.6" in needed
    assert "libc.so" not in needed


def test_the_name_is_that_of_the_system():
    assert library_name("arm64-apple-macos11.0") == "libpock_model.dylib"
    assert library_name("aarch64-linux-android") == "libpock_model.so"


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", sorted(name for name, spec in target_specs().items() if spec.has_system)
)
def test_every_target_links_one(target, tmp_path):
    """Stripped, so that the names it still has are those that it exports or needs."""
    made = fake.write(tmp_path / "net", fake.machine_of(target), library=True)
    raw = made.library.read_bytes()
    assert raw[:4] == (b"\xcf\xfa\xed\xfe" if made.library.suffix == ".dylib" else b"\x7fELF")
    missing = [name for name in public_names() if f"{name}\0".encode() not in raw]
    assert not missing

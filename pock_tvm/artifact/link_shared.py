"""Link the shared library of an artifact: for Linux, for Android, for macOS.

All three export the functions of ``pock.h`` and nothing else, so that one application may hold the
libraries of several models.
"""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pock_tvm.artifact import bionic
from pock_tvm.artifact.link import (
    FLAGS,
    LIBRARY_SOURCES,
    RUNTIME,
    driver_sources,
    portable,
    run_lld,
    run_zig,
    zig_cc,
)

if TYPE_CHECKING:
    from pock_tvm.targets import TargetSpec

_GLIBC = "2.28"
"""The oldest C library that a shared library asks for: that of Debian 10 and Ubuntu 18.10."""

_ANDROID_PAGE_BYTES = 16 * 1024
"""Systems with such pages, from Android 15 on, refuse less; any multiple of the page will do."""


def library_name(system: str) -> str:
    """Return what the shared library is called, by the triple of its target."""
    return "libpock_model.dylib" if "-macos" in system else "libpock_model.so"


def link_library(
    object_file: Path, tables: Path, output: Path, spec: "TargetSpec", system: str
) -> None:
    """Link a shared library that exports the functions of ``pock.h`` and nothing else.

    Args:
        object_file: the kernels and entry points.
        tables: the generated ``pock_artifact.c``.
        output: the library, named as :func:`library_name` says.
        spec: how zig links for the machine.
        system: the triple that the kernels were compiled for.
    """
    sources = [RUNTIME / name for name in (*LIBRARY_SOURCES, *driver_sources(spec))]
    inputs = [*sources, tables, object_file]
    with tempfile.TemporaryDirectory() as scratch:
        exports = Path(scratch) / "exports.map"
        exports.write_text(f"{{ global: {'; '.join(public_names())}; local: *; }};\n")
        if "-android" in system:
            link_for_android(inputs[:-1], inputs[-1:], exports, output, spec.zig_target)
        elif "-macos" in system:
            name = [f"-Wl,-install_name,@rpath/{output.name}", "-Wl,-dead_strip", "-s"]
            zig_cc([*spec.zig_options, "-dynamiclib", *name], spec.zig_target, inputs, output)
        else:
            _link_for_linux(inputs, exports, output, spec)


def public_names() -> list[str]:
    """Return the functions that ``pock.h`` declares."""
    text = (RUNTIME / "pock.h").read_text(encoding="utf-8")
    return re.findall(r"^POCK_API .*?(pock_\w+)\(", text, re.M)


def _link_for_linux(inputs: list[Path], exports: Path, output: Path, spec: "TargetSpec") -> None:
    triple = spec.zig_target
    if not triple.startswith("hexagon"):  # which has no other C library than musl
        triple = re.sub(
            r"-linux-(?:musl|gnu)([a-z]*)(?:\.[\d.]+)?$", rf"-linux-gnu\1.{_GLIBC}", triple
        )
    options = [option for option in portable(spec.zig_options, triple) if option != "-static"]
    shared = ["-shared", "-fPIC", "-s", "-Wl,-Bsymbolic,-z,defs", f"-Wl,--version-script={exports}"]
    zig_cc([*options, *shared, f"-Wl,-soname,{output.name}"], triple, inputs, output)


def link_for_android(
    sources: list[Path],
    linked: list[Path],
    exports: Path,
    output: Path,
    triple: str,
    *,
    heap: bool = False,
) -> None:
    """Link against the names that Android's C library exports; the NDK is not needed.

    The sources are compiled with musl's headers, whose types are those of the kernel as Android's
    are on 64-bit Arm; ``bionic.py`` has what differs.

    Args:
        sources: C files of the runtime's folder.
        linked: objects and libraries.
        exports: a version script; the folder around it takes what is made on the way.
        output: the library.
        triple: how zig calls the machine.
        heap: whether the sources may allocate, as the runtime must not.
    """
    folder = exports.parent
    header = bionic.write_header(folder)
    compiled = []
    flags = ["-c", "-fPIC", "-ffunction-sections", *FLAGS, f"-I{RUNTIME}", "-include", str(header)]
    flags += [f"-I{RUNTIME / 'android'}"]  # the part of jni.h that pock_jni.c needs
    for source in sources:
        compiled.append(folder / f"{source.stem}.o")
        run_zig(
            [*flags, "-fno-stack-protector", "-fno-builtin-bcmp"], triple, [source], compiled[-1]
        )
    libraries = bionic.write_stubs(folder, triple, heap=heap)
    words = [
        *("-shared", "-Bsymbolic", "--no-undefined", "--gc-sections", "--build-id=sha1", "-s"),
        *("--hash-style=gnu", "--pack-dyn-relocs=none", "-z", "relro", "-z", "now"),
        *("-z", f"max-page-size={_ANDROID_PAGE_BYTES}", "-soname", output.name),
        f"--version-script={exports}",
        *(str(path) for path in (*compiled, *linked, *libraries)),
    ]
    run_lld(words, output, "aarch64-linux-android")

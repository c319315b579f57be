"""Link the compiled step with the C runtime, for any machine, by the C compiler inside zig."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pock_tvm.artifact.hide_symbols import hide_symbols
from pock_tvm.errors import BuildError

if TYPE_CHECKING:
    from pock_tvm.targets import TargetSpec

RUNTIME = Path(__file__).resolve().parent.parent / "runtime"

LIBRARY_SOURCES = (
    "pock_start.c",
    "pock_errors.c",
    "pock_runtime.c",
    "pock_machine.c",
    "pock_cores.c",
    "pock_threads.c",
    "pock_workspace.c",
    "pock_files.c",
    "pock_memory.c",
    "pock_sha256.c",
    "pock_sha256_fast.c",
)
EXECUTABLE_SOURCES = (
    *LIBRARY_SOURCES,
    "pock_data.c",
    "pock_order.c",
    "pock_augment.c",
    "pock_rate.c",
    "pock_options.c",
    "pock_main.c",
)
BARE_SOURCES = (
    "pock_start.c",
    "pock_errors.c",
    "pock_runtime.c",
    "pock_workspace.c",
    "pock_memory.c",
    "pock_sha256.c",
    "pock_sha256_fast.c",
    "pock_bare.c",
)
"""The runtime of a machine without an operating system."""
BARE_FILES = ("pock.h", "pock_internal.h", "pock_augment.h", *BARE_SOURCES)
PROFILER_SOURCES = (*LIBRARY_SOURCES, "pock_profile.c")
DRIVER_SOURCES = {
    "cuda": ("pock_cuda.c",),
    "metal": ("pock_metal.c",),
    "opencl": ("pock_opencl.c",),
}
"""What runs the kernels of a GPU, by the kind of its TVM target."""
DRIVER_HEADERS = ("pock_launch.h",)
HEADERS = (
    "pock.h",
    "pock_internal.h",
    "pock_data.h",
    "pock_order.h",
    "pock_augment.h",
    "pock_rate.h",
    "pock_options.h",
)

FLAGS = ("-std=c11", "-O2", "-g0", "-Wall", "-Wextra", "-fvisibility=hidden")


def merge_objects(objects: Sequence[bytes], output: Path, zig_target: str) -> None:
    """Write one relocatable object that holds all of ``objects``."""
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for i, content in enumerate(objects):
            parts.append(Path(folder) / f"part{i}.o")
            parts[-1].write_bytes(content)
        run_zig(["-r", "-nostdlib"], zig_target, parts, output)
    if "-macos" in zig_target:
        output.write_bytes(hide_symbols(output.read_bytes()))


def driver_sources(spec: "TargetSpec") -> tuple[str, ...]:
    """Return the files of the runtime that only a target with such a GPU needs."""
    return DRIVER_SOURCES[spec.device.tvm_options["kind"]] if spec.device else ()


def compile_object(source: Path, zig_target: str) -> bytes:
    """Return the object of a C file that includes headers of the runtime."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "compiled.o"
        run_zig(["-c", "-fPIC", *FLAGS, f"-I{RUNTIME}"], zig_target, [source], output)
        return output.read_bytes()


def link_executable(object_file: Path, tables: Path, output: Path, spec: "TargetSpec") -> None:
    """Link ``pock_train`` with everything that it needs inside, the C library too on Linux.

    One that opens a GPU's driver at run time takes the C library from the machine, as it must.
    """
    triple, static = spec.zig_target, []
    if spec.device is None:
        triple = re.sub(r"-linux-gnu([a-z]*)(?:\.[\d.]+)?$", r"-linux-musl\1", triple)
        if "-linux-" in triple and "-static" not in spec.zig_options:
            static = ["-static"]
    sources = [RUNTIME / name for name in (*EXECUTABLE_SOURCES, *driver_sources(spec))]
    zig_cc(
        [*portable(spec.zig_options, triple), *static, "-s"],
        triple,
        [*sources, tables, object_file],
        output,
    )


def link_profiler(artifact: Path, calls: Path, output: Path, spec: "TargetSpec") -> None:
    """Link the program that times each of ``calls``, all else from the folder ``artifact``."""
    sources = [RUNTIME / name for name in PROFILER_SOURCES]
    inputs = [*sources, calls, artifact / "runtime" / "pock_artifact.c", artifact / "step.o"]
    vectors = ["-O3", "-ffp-contract=fast", f"-DPOCK_VECTOR_BYTES={spec.vector_bits // 8}"]
    machine = list(spec.zig_options) or ["-mcpu=native"]
    zig_cc([*machine, *vectors], spec.zig_target, inputs, output)


def portable(zig_options: Sequence[str], triple: str) -> list[str]:
    """Leave the cpu out: the runtime and the C library run on one that lacks what kernels need.

    That is how ``pock_check_machine`` gets to say so. Other architectures have no such baseline.
    """
    baseline = triple.startswith(("x86_64-linux", "aarch64-linux"))
    return [word for word in zig_options if not (baseline and word.startswith("-mcpu="))]


def zig_cc(options: list[str], triple: str, inputs: list[Path], output: Path) -> None:
    """Compile and link C sources and objects, warnings on."""
    flags = [*FLAGS, *options, f"-I{RUNTIME}", "-lm", "-lpthread", "-ldl"]
    run_zig(flags, triple, inputs, output)


def run_zig(options: list[str], triple: str, inputs: list[Path], output: Path) -> None:
    """Run the C compiler inside zig.

    Raises:
        BuildError: it failed; the message has its first useful line.
    """
    files = [str(path) for path in inputs]
    _run("cc", ["-target", triple, *files, *options, "-o", str(output)], output, triple)


def run_lld(words: list[str], output: Path, triple: str) -> None:
    """Run the ELF linker inside zig, where zig's own idea of the system is in the way.

    Raises:
        BuildError: it failed; the message has its first useful line.
    """
    _run("ld.lld", [*words, "-o", str(output)], output, triple)


def archive(objects: Sequence[Path], output: Path, form: str) -> None:
    """Put objects into a static library of a form that ``ar`` knows: gnu, darwin.

    Raises:
        BuildError: it failed; the message has its first useful line.
    """
    words = [f"--format={form}", "rcsD", str(output), *map(str, objects)]
    _run("ar", words, output, form)


def _run(tool: str, words: list[str], output: Path, triple: str) -> None:
    command = (sys.executable, "-m", "ziglang", tool, *words)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(
            f"cannot link {output.name} for {triple}: {_first_useful_line(done.stderr)}"
        )


def _first_useful_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line or "undefined" in line]
    return next(iter([*errors, *lines]), "zig says nothing; is the package ziglang installed?")

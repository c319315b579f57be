"""The C runtime by itself: no heap in a step, no data race, no undefined behaviour, no warning."""

import platform
import shutil
import signal
import sys

import fake
import pytest
from building import HERE, RUNTIME, call, sources

from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.artifact.link import EXECUTABLE_SOURCES, LIBRARY_SOURCES

ZIG = (sys.executable, "-m", "ziglang", "cc")
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


def build(*command):
    done = call(*command)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def heap_driver(artifact, tmp_path_factory):
    output = tmp_path_factory.mktemp("driver") / "heap_driver"
    options = ("-O1", "-std=gnu11", f"-I{RUNTIME}", "-rdynamic", "-pthread")
    files = [HERE / "heap_driver.c", *sources(artifact, LIBRARY_SOURCES)]
    build("gcc", *options, *files, "-lm", "-o", output)
    return output


@needs_gcc
@pytest.mark.skipif(platform.system() != "Linux", reason="seccomp is Linux's")
@pytest.mark.parametrize("broken_by", ["none", "malloc", "mmap"])
def test_a_step_needs_no_heap(heap_driver, artifact, tmp_path, broken_by):
    done = call(heap_driver, artifact.weights, tmp_path / "checkpoint", broken_by)
    if done.returncode == 77:
        pytest.skip(done.stderr)
    if broken_by == "mmap":
        assert done.returncode == -signal.SIGSYS
    else:
        count = 1 if broken_by == "malloc" else 0
        assert done.stdout == f"code 0 allocations {count}\n", done.stderr


@needs_gcc
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.parametrize("threads", [2, 4])  # with and without a core for each, where there are 2
def test_sanitizers_find_nothing(artifact, tmp_path, sanitizer, threads):
    program, data, saved = (tmp_path / name for name in ("program", "data", "saved"))
    options = ("-g", "-O1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-pthread")
    done = call("gcc", *options, *sources(artifact, EXECUTABLE_SOURCES), "-lm", "-o", program)
    if "cannot find" in done.stderr:
        pytest.skip(f"gcc here lacks the {sanitizer} sanitizer")
    assert done.returncode == 0, done.stderr
    write_dataset(data, artifact.description, *fake.samples(10))
    given = ("--weights", artifact.weights, "--data", data, "--threads", threads)
    for code, words in (
        (0, ("train", *given, "--steps", 300, "--lr", 0.01, "--checkpoint", saved)),
        (0, ("train", *given, "--steps", 1, "--lr", 0.01, "--resume", saved)),
        (1, ("train", *given, "--steps", 50, "--lr", 1e15)),
        (1, ("train", *given, "--steps", 1, "--lr", 0.01, "--resume", artifact.weights)),
        (0, ("evaluate", *given, "--resume", saved)),
        (0, ("predict", *given, "--output", tmp_path / "rows")),
    ):
        done = call(program, *words)
        if "unexpected memory mapping" in done.stderr:
            pytest.skip("ThreadSanitizer cannot run under this kernel's address layout")
        assert done.returncode == code, done.stderr
        assert done.stderr.count("\n") == code, done.stderr


def test_a_race_is_found(tmp_path):
    """The check of the check: ThreadSanitizer is at work here."""
    racy = tmp_path / "racy.c"
    racy.write_text(
        "#include <pthread.h>\nint n; void *f(void *p) { n++; return p; }\n"
        "int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); n++; pthread_join(t, 0); }"
    )
    done = call("gcc", "-fsanitize=thread", "-pthread", racy, "-o", tmp_path / "racy")
    if done.returncode:
        pytest.skip("gcc here lacks the thread sanitizer")
    done = call(tmp_path / "racy")
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run under this kernel's address layout")
    assert "data race" in done.stderr


COMPILERS = {
    "zig-x86-64": (*ZIG, "-target", "x86_64-linux-gnu.2.28"),
    "zig-raspberry-pi": (*ZIG, "-target", "aarch64-linux-musl"),
    "zig-armv7": (*ZIG, "-target", "arm-linux-musleabihf"),
    "zig-riscv64": (*ZIG, "-target", "riscv64-linux-musl"),
    "zig-macos": (*ZIG, "-target", "aarch64-macos.11.0"),
    "gcc": ("gcc",),
    "clang": ("clang",),
}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_runtime_compiles_without_a_warning(compiler, tmp_path):
    command = COMPILERS[compiler]
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]}")
    for names in (EXECUTABLE_SOURCES, ("pock_profile.c",)):  # a main each
        files = [RUNTIME / name for name in names]
        done = call(*command, *WARNINGS, "-O2", "-c", *files, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not done.stderr


def test_the_header_is_c_plus_plus_too(tmp_path):
    source = tmp_path / "use.cpp"
    source.write_text('#include "pock.h"\nint main() { return (int)pock_session_bytes() == 0; }\n')
    zig = (*ZIG[:-1], "c++", "-target", "x86_64-linux-gnu.2.28")
    build(*zig, *WARNINGS[1:], f"-I{RUNTIME}", "-c", source, "-o", tmp_path / "use.o")

"""The examples of the C API build, run, and train as the Trainer does."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fake
import numpy as np
import pytest

from pock_tvm import Trainer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "c_api"
ZIG = (sys.executable, "-m", "ziglang")
HOST = ("-target", "x86_64-linux-gnu.2.28")
CC = ("gcc",) if shutil.which("gcc") else (*ZIG, "cc", *HOST)
CXX = ("g++",) if shutil.which("g++") else (*ZIG, "c++", *HOST)  # builds a libc++ first
WARNINGS = ("-Wall", "-Wextra", "-Werror")
WRAPPER = ROOT / "pock_tvm" / "runtime" / "android"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("c_api") / "net")


@pytest.fixture(scope="module")
def losses(artifact):
    x = (np.arange(fake.BATCH * fake.FEATURES) % 5 - 2).astype("float32").reshape(fake.BATCH, -1)
    labels = (np.arange(fake.BATCH) % 3).astype("int32")
    with Trainer(artifact.directory, threads=1) as trainer:
        return [np.float32(trainer.step(x, labels, 0.01)) for _ in range(5)]


def call(*command):
    line = list(map(str, command))
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def linked(artifact):
    folder = artifact.directory
    return (f"-I{folder / 'runtime'}", artifact.library, f"-Wl,-rpath,{folder}")


@pytest.mark.parametrize(
    ("compiler", "source"),
    [
        ((*CC, "-std=c11", "-D_POSIX_C_SOURCE=200809L"), "train.c"),
        ((*CXX, "-std=c++17"), "train.cpp"),
    ],
)
def test_c_and_cpp(artifact, losses, tmp_path, compiler, source):
    program = tmp_path / "train"
    call(*compiler, *WARNINGS, EXAMPLES / source, *linked(artifact), "-o", program)
    assert [np.float32(line) for line in call(program, artifact.weights)] == losses
    done = subprocess.run([program, "/nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "train: cannot read /nowhere: No such file or directory\n",
    )


def test_python_needs_nothing_but_ctypes(artifact, losses, tmp_path):
    shutil.copyfile(EXAMPLES / "train.py", tmp_path / "train.py")
    lines = call(sys.executable, "-I", tmp_path / "train.py", artifact.directory)
    assert [np.float32(line) for line in lines] == losses


def test_the_structures_of_ctypes_are_those_of_the_header(artifact, tmp_path):
    from pock_tvm.artifact import session

    sys.path.insert(0, str(EXAMPLES))
    try:
        import train
    finally:
        sys.path.remove(str(EXAMPLES))
    fields = [name for name, _ in session.Setup._fields_]
    prints = "".join(f'printf("%zu ", offsetof(pock_setup, {name}));' for name in fields)
    source = tmp_path / "offsets.c"
    source.write_text(
        '#include "pock.h"\n#include <stdio.h>\nint main(void) { '
        f'{prints} printf("%zu %zu %d\\n", sizeof(pock_setup), sizeof(pock_tensor_about), '
        "POCK_ABI); }\n"
    )
    call(*CC, source, *linked(artifact), "-o", tmp_path / "offsets")
    (line,) = call(tmp_path / "offsets")
    for setup in (session.Setup, train.Setup):
        offsets = [getattr(setup, name).offset for name in fields]
        sizes = [ctypes.sizeof(setup), ctypes.sizeof(train.About)]
        assert line == " ".join(map(str, [*offsets, *sizes, session._ABI]))
    assert train.ABI == session._ABI


def test_java(artifact, losses, tmp_path):
    compiler = shutil.which("javac")
    home = Path(compiler).resolve().parents[1] if compiler else None
    if not home or not (home / "include" / "linux" / "jni_md.h").exists():
        pytest.skip("needs a JDK; tests/packaging/ runs the same C file without one")
    headers = (f"-I{home / 'include'}", f"-I{home / 'include' / 'linux'}")
    flags = ("-shared", "-fPIC", "-std=c11", "-D_POSIX_C_SOURCE=200809L", *WARNINGS)
    source = WRAPPER / "pock_jni.c"
    call(*CC, *flags, *headers, source, *linked(artifact), "-o", tmp_path / "libpock_jni.so")
    call("javac", "-d", tmp_path, WRAPPER / "PockModel.java", EXAMPLES / "Train.java")
    java = Path(compiler).resolve().with_name("java")
    *lines, message = call(
        *(java, "-cp", tmp_path, f"-Djava.library.path={tmp_path}", "Train", artifact.weights)
    )
    assert [np.float32(line) for line in lines] == losses
    assert message == "cannot read /nowhere/weights: No such file or directory"


def test_the_sources_that_the_document_names_are_enough(artifact, losses, tmp_path):
    text = (ROOT / "docs" / "c-api.md").read_text()
    names = re.search(r"runtime/pock_\{([a-z0-9_,]+)\}\.c", text)[1].split(",")
    folder = artifact.directory / "runtime"
    sources = [folder / f"pock_{name}.c" for name in names]
    given = (EXAMPLES / "train.c", artifact.directory / "step.o", *sources)
    flags = ("-std=c11", "-O2", "-D_POSIX_C_SOURCE=200809L", f"-I{folder}")
    call(*CC, *flags, *given, "-lm", "-lpthread", "-o", tmp_path / "train")
    lines = call(tmp_path / "train", artifact.weights)
    assert [np.float32(line) for line in lines] == losses

"""The folder for Android, and its Java class's C half under a table of functions of our own."""

import re
import shutil
import subprocess
from pathlib import Path

import elf_reader
import fake
import numpy as np
import pytest
from building import SANITIZERS, sources

from pock_tvm import Trainer
from pock_tvm.artifact.link import RUNTIME
from pock_tvm.packaging import package

HERE = Path(__file__).parent
ANDROID = RUNTIME / "android"
STRICT = ("-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror")


def call(*command):
    line = list(map(str, command))
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("android")
    made = fake.write(place / "net", fake.machine_of("android-arm64"), library=True)
    package(made.directory, place / "out", "android")
    return place / "out"


def declared():
    """The native methods of the Java class."""
    text = (ANDROID / "PockModel.java").read_text()
    return {f"Java_org_pock_PockModel_{m}" for m in re.findall(r"static native \w+ (\w+)\(", text)}


def test_the_wrapper_exports_what_the_class_declares(folder):
    raw = (folder / "jni" / "arm64-v8a" / "libpock_jni.so").read_bytes()
    library = elf_reader.read_library(raw)
    assert len(declared()) == 14
    assert library.defined == declared()
    assert (
        {"libpock_model.so", "libc.so"}
        <= set(library.needed)
        <= {*("libpock_model.so", "libc.so", "libm.so", "libdl.so")}
    )
    assert set(library.alignments) == {16 * 1024}
    raw = (folder / "jni" / "arm64-v8a" / "libpock_model.so").read_bytes()
    model = elf_reader.read_library(raw)
    called = {name for name in library.undefined if name.startswith("pock_")}
    assert called
    assert called <= model.defined


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_a_table_of_functions_trains_through_it(sanitizer, tmp_path):
    artifact = fake.write(tmp_path / "net")
    program, saved = tmp_path / "driver", tmp_path / "saved"
    files = [HERE / "jni_driver.c", ANDROID / "pock_jni.c", *sources(artifact)]
    flags = (*STRICT, "-O1", "-pthread", *SANITIZERS[sanitizer], f"-I{RUNTIME}", f"-I{ANDROID}")
    done = call("gcc", *flags, *files, "-lm", "-o", program)
    assert done.returncode == 0, done.stderr
    done = call(program, artifact.weights, saved)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run under this kernel's address layout")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    x = (np.arange(fake.BATCH * fake.FEATURES) % 5 - 2).astype("float32").reshape(fake.BATCH, -1)
    labels = (np.arange(fake.BATCH) % 3).astype("int32")
    with Trainer(artifact.directory, threads=1) as trainer:
        losses = [np.float32(trainer.step(x, labels, 0.01)) for _ in range(5)]
    assert [np.float32(line) for line in lines[:5]] == losses
    error = "java/lang/RuntimeException: "
    assert lines[5:] == [
        "resumed 1 at 6",
        "1 1 1",
        f"{error}fc.bias has 4 bytes, not 8",
        f"{error}the buffer is not a direct one: make it with ByteBuffer.allocateDirect",
        f"{error}scale has 24 bytes, not 8",
        f"{error}{artifact.weights} has 4288 bytes, not 4352: truncated, or of another artifact",
        f"{error}there is no tensor 99; the artifact has 11",
        f"{error}cannot read /nowhere/weights: No such file or directory",
        f"{error}1 to 64 threads work",
        f"{error}1 to 64 threads work",
        "0 strings kept",
    ]


def jdk():
    compiler = shutil.which("javac")
    home = Path(compiler).resolve().parents[1] if compiler else None
    if not home or not (home / "include" / "linux" / "jni_md.h").exists():
        pytest.skip("needs a JDK")
    return home, (f"-I{home / 'include'}", f"-I{home / 'include' / 'linux'}")


def test_each_function_stands_where_a_jdk_has_it(tmp_path):
    names = re.findall(r"\(\*(\w+)\)", (ANDROID / "jni.h").read_text())
    assert len(names) == 8
    rows = "".join(f'printf("%zu ", offsetof(struct JNINativeInterface_, {n}));' for n in names)
    (tmp_path / "offsets.c").write_text(
        "#include <jni.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        f"int main(void) {{ {rows} return 0; }}\n"
    )
    found = []
    for headers in ((f"-I{ANDROID}",), jdk()[1]):
        done = call("gcc", *headers, tmp_path / "offsets.c", "-o", tmp_path / "offsets")
        assert done.returncode == 0, done.stderr
        found.append(call(tmp_path / "offsets").stdout)
    assert found[0] == found[1]


def test_the_numbers_of_the_class_are_those_of_the_header(tmp_path):
    text = (ANDROID / "PockModel.java").read_text()
    (line,) = re.findall(r"static final int (FLOAT32[^;]*);", text)
    numbers = re.findall(r"(\w+) = (\d)", line)
    wrong = " || ".join(f"POCK_{name} != {value}" for name, value in numbers)
    assert wrong.count("||") == 5
    program = f'#include "pock.h"\nint main(void) {{ return {wrong}; }}\n'
    (tmp_path / "numbers.c").write_text(program)
    done = call("gcc", f"-I{RUNTIME}", tmp_path / "numbers.c", "-o", tmp_path / "numbers")
    assert done.returncode == 0, done.stderr
    assert call(tmp_path / "numbers").returncode == 0

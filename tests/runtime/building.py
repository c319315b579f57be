"""Compile the runtime around the fake step, with whatever flags a test wants."""

import subprocess
from pathlib import Path

import fake
import pytest

from pock_tvm.artifact.link import LIBRARY_SOURCES, RUNTIME

HERE = Path(__file__).parent
READERS = (*LIBRARY_SOURCES, "pock_data.c", "pock_order.c", "pock_augment.c", "pock_rate.c")
SANITIZERS = {
    "address": ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-g", "-fsanitize=thread", "-fno-sanitize-recover=all"),
}


def sources(artifact, names=LIBRARY_SOURCES):
    """The runtime as it lies in the artifact, with the fake step as source."""
    folder = artifact.directory / "runtime"
    return [*(folder / name for name in names), folder / "pock_artifact.c", fake.SOURCE]


def call(*command, **options):
    line = list(map(str, command))
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def build_driver(artifact, name, output, *options, names=LIBRARY_SOURCES, compiler="gcc"):
    """Build ``tests/runtime/<name>`` with the runtime; skip where a sanitizer is missing."""
    common = ("-std=c11", "-O1", "-pthread", f"-I{RUNTIME}")
    files = [HERE / name, *sources(artifact, names)]
    done = call(compiler, *common, *options, *files, "-lm", "-o", output)
    if "cannot find" in done.stderr and "-fsanitize" in " ".join(options):
        pytest.skip(f"{compiler} here lacks a sanitizer")
    assert done.returncode == 0, done.stderr
    return output

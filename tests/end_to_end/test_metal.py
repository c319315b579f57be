"""Kernels for Apple's GPUs: their source, run on this processor through a Metal of our own.

A C++ compiler takes the source with the few words of Metal's language defined, and a library that
stands for Metal and Objective-C runs what ``pock_metal.c`` dispatches, thread by thread.
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import small_net
import small_transformer
from test_opencl import NETS, RATE, STEPS, samples_of

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.artifact.link import EXECUTABLE_SOURCES
from pock_tvm.frontend import load_model

TESTS = Path(__file__).parents[1] / "artifact"
SANITIZERS = {
    "plain": (),
    "address": ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-g", "-fsanitize=thread", "-fno-sanitize-recover=all"),
}
INPUTS = {small_net: small_net.INPUT, small_transformer: small_transformer.INPUT}


def call(*words, **options):
    line = [str(word) for word in words]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


@pytest.fixture(
    scope="module",
    params=["small_net", pytest.param("small_transformer", marks=pytest.mark.slow)],
)
def trained(request, tmp_path_factory):
    """A net for the processor and for Metal; folder and samples."""
    module = NETS[request.param]
    model = load_model(f"{request.param}:build", module.BATCH)
    folder = tmp_path_factory.mktemp(request.param)
    for target in ("host", "apple-m1-metal"):
        pock_tvm.compile(model, folder / target, target=target)
    return folder, module, samples_of(module)


def source_of(folder):
    """Return the text of the kernels."""
    text = (folder / "apple-m1-metal" / "runtime" / "pock_kernels.c").read_text()
    literals = re.findall(r'^    ("[^\n]*"),?$', text.partition("pock_device_kernel")[0], re.M)
    octal = re.compile(r"\\([0-7]{3})")
    return "".join(octal.sub(lambda m: chr(int(m[1], 8)), word[1:-1]) for word in literals)


@pytest.fixture(scope="module", params=SANITIZERS)
def program(request, trained, tmp_path_factory):
    """Return the training program linked for this machine, and its environment."""
    if not shutil.which("clang++") or platform.machine() != "x86_64":
        pytest.skip("needs clang++ (Debian package clang) and an x86-64 processor")
    folder, _, _ = trained
    built = tmp_path_factory.mktemp("metal")
    (built / "kernels.cc").write_text(source_of(folder))
    shared = ("-shared", "-fPIC", "-O1")
    strict = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-attributes", "-Wno-unused-variable")
    ignored = ("-Wno-unused-parameter",)  # a launch of one group reads no number of its own
    done = call(
        *("clang++", "-std=c++17", *shared, *strict, *ignored, f"-I{TESTS / 'metal_shim'}"),
        *(built / "kernels.cc", "-lm", "-o", built / "kernels.so"),
    )
    assert done.returncode == 0, done.stderr
    done = call(
        "gcc", "-std=c11", *shared, TESTS / "fake_metal.c", "-ldl", "-o", built / "metal.so"
    )
    assert done.returncode == 0, done.stderr
    runtime = folder / "apple-m1-metal" / "runtime"
    names = (*EXECUTABLE_SOURCES, "pock_metal.c", "pock_kernels.c", "pock_artifact.c")
    places = [f'-D{name}="{built}/metal.so"' for name in ("POCK_METAL", "POCK_OBJECTIVE_C")]
    done = call(
        *("gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{runtime}"),
        *SANITIZERS[request.param],
        *(*places, *(runtime / name for name in names), "-lm", "-ldl", "-o", built / "pock_train"),
    )
    assert done.returncode == 0, done.stderr
    return built / "pock_train", {"FAKE_METAL_KERNELS": str(built / "kernels.so")}


def _is_of_the_fake(line):
    """What it says itself, and that AddressSanitizer cannot follow its threads of a group."""
    return line.startswith("fake: ") or "ASan doesn't fully support makecontext" in line


def train(trained, program, tmp_path, **environment):
    folder, module, (inputs, labels) = trained
    artifact = pock_tvm.load_artifact(folder / "apple-m1-metal")
    tensors = {INPUTS[module]: inputs.astype(artifact.description.sample_tensors[0].dtype)}
    dtype = artifact.description.tensor("labels").dtype
    write_dataset(tmp_path / "data", artifact.description, tensors, labels.astype(dtype))
    words = ["--weights", artifact.weights, "--data", tmp_path / "data", "--steps", STEPS]
    words += ["--lr", RATE, "--checkpoint", tmp_path / "checkpoint"]
    return call(program[0], "train", *words, env={**os.environ, **program[1], **environment})


def test_ten_steps_agree_with_the_processor(trained, program, tmp_path):
    folder, _, (inputs, labels) = trained
    done = train(trained, program, tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [float(m) for m in re.findall(r"^step \d+ loss (\S+)$", done.stdout, re.M)]
    with Trainer(folder / "host") as trainer:
        expected = [trainer.step(inputs, labels, RATE) for _ in range(STEPS)]
        weights = {
            t.name: trainer.tensor(t.name) for t in trainer.description.tensors if t.trainable
        }
        np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)
        trainer.load_checkpoint(tmp_path / "checkpoint")
        for name, value in weights.items():
            np.testing.assert_allclose(trainer.tensor(name), value, rtol=1e-4, atol=1e-5)
    assert re.search(r"^fake: \d+ dispatches, nothing left, 0 pools$", done.stderr, re.M)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"FAKE_METAL_NONE": "1"}, "Metal cannot find a device: no reason given"),
        (
            {"FAKE_METAL_FAIL": "newLibraryWithSource:options:error:"},
            "Metal cannot build the kernels: the fake says so",
        ),
        (
            {"FAKE_METAL_FAIL": "newBufferWithLength:options:"},
            "Metal cannot take the memory that it needs: ",
        ),
        (
            {"FAKE_METAL_FAIL": "status"},
            "Metal cannot finish a step; the state is as it was before: the fake says so",
        ),
    ],
)
def test_failures_are_one_line(trained, program, tmp_path, environment, says):
    done = train(trained, program, tmp_path, **environment)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not _is_of_the_fake(line)]
    assert says in line
    assert not (tmp_path / "checkpoint").exists()


def test_the_program_is_for_macos(trained):
    folder, _, _ = trained
    artifact = pock_tvm.load_artifact(folder / "apple-m1-metal")
    head = artifact.executable.read_bytes()[:8]
    assert head == bytes.fromhex("cffaedfe0c000001")  # Mach-O of 64 bits, for arm64

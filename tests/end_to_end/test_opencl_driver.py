"""The calls of OpenCL's driver, against one that computes nothing, under sanitizers.

What the kernels compute is what ``test_opencl.py`` compares; here each call may fail.
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

import pock_tvm
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.artifact.link import EXECUTABLE_SOURCES, LIBRARY_SOURCES
from pock_tvm.frontend import load_model

TESTS = Path(__file__).parents[1] / "artifact"
SANITIZERS = {
    "plain": (),
    "address": ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-g", "-fsanitize=thread", "-fno-sanitize-recover=all"),
}
STEPS = 2

pytestmark = [
    pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc"),
    pytest.mark.skipif(platform.system() != "Linux", reason="puts a library in front by ld.so"),
]


def gcc(*words):
    line = ["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    model = load_model("small_net:build", small_net.BATCH)
    folder = tmp_path_factory.mktemp("opencl") / "net"
    return pock_tvm.compile(model, folder, target="opencl", update="bias", executable=True).artifact


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    gcc("-shared", "-fPIC", TESTS / "fake_opencl.c", "-o", folder / "libOpenCL.so.1")
    return folder


def build(artifact, output, sanitizer, names, *more):
    runtime = artifact.directory / "runtime"
    files = [runtime / name for name in (*names, "pock_opencl.c", "pock_artifact.c")]
    files += [artifact.directory / "step.o", *more]
    gcc(*SANITIZERS[sanitizer], "-pthread", f"-I{runtime}", *files, "-lm", "-ldl", "-o", output)
    return output


@pytest.fixture(scope="module", params=SANITIZERS)
def program(request, artifact, tmp_path_factory):
    """The artifact's own, and those that a compiler on this machine makes of its sources."""
    if request.param == "plain":
        return artifact.executable
    output = tmp_path_factory.mktemp(request.param) / "pock_train"
    return build(artifact, output, request.param, EXECUTABLE_SOURCES)


def call(library, *words, **environment):
    found = {**os.environ, "LD_LIBRARY_PATH": str(library), **environment}
    line = [str(word) for word in words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=found)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run under this kernel's address layout")
    return done


def train(program, artifact, folder, library, **environment):
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((small_net.BATCH, 1, 8, 8), "float32")
    labels = rng.integers(0, small_net.CLASSES, small_net.BATCH).astype("int32")
    write_dataset(folder / "data", artifact.description, {small_net.INPUT: pixels}, labels)
    words = [program, "train", "--weights", artifact.weights, "--data", folder / "data"]
    words += ["--steps", STEPS, "--lr", 0.1, "--checkpoint", folder / "checkpoint"]
    return call(library, *words, **environment)


def launches_of(artifact):
    text = (artifact.directory / "runtime" / "pock_kernels.c").read_text()
    (count,) = re.findall(r"pock_launch_all\(POCK_TRAIN_STEP, train_step, (\d+)\)", text)
    return int(count)


@pytest.mark.parametrize("environment", [{}, {"FAKE_OPENCL_COPIES": "1"}])
def test_every_kernel_is_launched_and_everything_is_given_back(
    program, artifact, library, tmp_path, environment
):
    done = train(program, artifact, tmp_path, library, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"fake: {STEPS * launches_of(artifact)} launches, 0 left\n"
    assert (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ("clGetPlatformIDs 1 -1001", "cannot find a platform: error -1001 (no platform: no driver"),
        ("no device", "cannot find a device: error -1 (no device found)"),
        ("clCreateContext 1 -2", "cannot use the device: error -2 (device not available)"),
        ("clCreateCommandQueue 1 -6", "cannot use the device: error -6 (out of host memory)"),
        ("clCreateProgramWithSource 1 -6", "cannot take the kernels: error -6"),
        ("clBuildProgram 1 -11", "cannot build the kernels: error -11 line 1: so it is"),
        ("clCreateKernel 3 -6", "cannot make a kernel: error -6 (out of host memory)"),
        ("clEnqueueWriteBuffer 1 -4", "cannot write the inputs: error -4 (no memory for a buffer)"),
        ("clEnqueueWriteBuffer 6 -36", "cannot write the inputs: error -36 (the queue is gone"),
        ("clSetKernelArg 9 -5", "cannot launch pock_kernel_"),
        ("clEnqueueNDRangeKernel 1 -54", "error -54 (work-group larger than the device allows)"),
        ("clFinish 1 -5", "cannot finish a step; the state is as it was before: error -5"),
        ("clFinish 2 -36", "cannot finish a step; the state is as it was before: error -36"),
        ("clEnqueueReadBuffer 1 -5", "cannot finish a step; the state is as it was before: "),
    ],
)
def test_failures_are_one_line(program, artifact, library, tmp_path, fails, says):
    done = train(program, artifact, tmp_path, library, FAKE_OPENCL_FAIL=fails)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("fake: ")]
    assert says in line
    assert " 0 left" in done.stderr or "fake: " not in done.stderr
    assert not (tmp_path / "checkpoint").exists()


def test_a_state_that_comes_back_by_halves_is_said_to(program, artifact, library, tmp_path):
    """The last of a step's reads: no other copy of the state is kept on this side."""
    tensors = artifact.description.tensors
    last = 1 + sum(t.region == "arena" and t.role == "output" for t in tensors)
    environment = {"FAKE_OPENCL_FAIL": f"clEnqueueReadBuffer {last} -5"}
    done = train(program, artifact, tmp_path, library, **environment)
    assert done.returncode == 1
    assert "cannot read the state back; load a checkpoint before going on: error -5" in done.stderr
    assert not (tmp_path / "checkpoint").exists()


def test_memory_that_cannot_be_had_is_one_line(program, artifact, library, tmp_path):
    """The first refusal is that of the host's memory, which a buffer of its own replaces."""
    environment = {"FAKE_OPENCL_FAIL": "clCreateBuffer 2 -61", "FAKE_OPENCL_COPIES": "1"}
    done = train(program, artifact, tmp_path, library, **environment)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("fake: ")]
    assert "cannot make a buffer: error -61 (buffer larger than the device allows)" in line
    assert " 0 left" in done.stderr


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_two_threads_train_two_sessions(artifact, library, tmp_path, sanitizer):
    driver = TESTS / "two_sessions.c"
    program = build(artifact, tmp_path / "two", sanitizer, LIBRARY_SOURCES, driver)
    done = call(library, program, artifact.weights)
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()[-1:]) == {
        f"fake: {4 * 20 * launches_of(artifact)} launches, 0 left"
    }

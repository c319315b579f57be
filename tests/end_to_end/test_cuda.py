"""Kernels assembled for NVIDIA's GPUs, and the driver's calls, against a driver that computes none.

No GPU is needed, and none is used: what the kernels compute is what the OpenCL tests compare.
"""

import importlib.util
import os
import re
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_net
import small_transformer

import pock_tvm
from pock_tvm import PockError
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.artifact.link import EXECUTABLE_SOURCES
from pock_tvm.compilation import nvrtc
from pock_tvm.frontend import load_model
from pock_tvm.targets import get_target

FAKE = Path(__file__).parents[1] / "artifact" / "fake_cuda.c"
SANITIZERS = {
    "plain": (),
    "address": ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-g", "-fsanitize=thread", "-fno-sanitize-recover=all"),
}
TARGETS = {"jetson-nano": 53, "jetson-xavier": 72, "jetson-orin": 87, "cuda-sm90": 90}
NETS = {"small_net": small_net, "small_transformer": small_transformer}


@pytest.fixture(autouse=True, scope="module")
def assembler():
    try:
        found = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:  # not even a folder of NVIDIA's packages
        found = None
    if found is None:
        pytest.skip("needs the PyPI package nvidia-cuda-nvrtc-cu12 (extra `cuda`)")


def kernels_of(artifact):
    """Return the file of the kernels, and the rows (symbol, arguments) of its table."""
    text = (artifact.directory / "runtime" / "pock_kernels.c").read_text()
    return text, re.findall(r'^    \{"(pock_kernel_\w+)", (\d+), ', text, re.M)


def sections(elf):
    """Return the sizes of the sections of a 64-bit ELF file by name."""
    assert elf[:6] == b"\x7fELF\x02\x01"
    (start,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<3H", elf, 0x3A)
    rows = [struct.unpack_from("<IIQQQQ", elf, start + i * size) for i in range(count)]
    texts = elf[rows[names][4] :]
    return {texts[row[0] :].split(b"\0", 1)[0].decode(): row[5] for row in rows}


@pytest.mark.parametrize(
    "net", ["small_net", pytest.param("small_transformer", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_assembles_and_none_is_empty(net, target, tmp_path):
    model = load_model(f"{net}:build", NETS[net].BATCH)
    options = {"optimizer": "adamw", "executable": False}
    built = pock_tvm.compile(model, tmp_path / "net", target=target, **options).artifact
    text, rows = kernels_of(built)
    (numbers,) = re.findall(r"pock_image\[\] = \{([^}]*)\}", text)
    found = sections(bytes(int(n) for n in numbers.replace(",", " ").split()))
    assert len(rows) > 20
    for symbol, _ in rows:
        assert found[f".text.{symbol}"] > 0, symbol
    assert f"pock_architecture = {TARGETS[target]};" in text


def test_what_nvrtc_refuses_is_one_line():
    source = 'extern "C" __global__ void k(float *x) { x[0] = y; }'
    with pytest.raises(PockError, match=r"for sm_53: .*identifier \"y\" is undefined") as caught:
        nvrtc.assemble(source, "sm_53")
    assert "\n" not in str(caught.value)
    with pytest.raises(PockError, match=r"for sm_35"):
        nvrtc.assemble('extern "C" __global__ void k() {}', "sm_35")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """The small net for a processor like this one beside a GPU like that of a Jetson Nano."""
    spec = replace(get_target("cuda-sm90"), device=get_target("jetson-nano").device)
    model = load_model("small_net:build", small_net.BATCH)
    folder = tmp_path_factory.mktemp("cuda") / "net"
    return pock_tvm.compile(model, folder, target=spec, update="bias").artifact


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """Folders with the driver that computes nothing: a recent one, and one without graphs."""
    folders = {}
    for name, options in (("graphs", []), ("old", ["-DWITHOUT_GRAPHS"])):
        folders[name] = tmp_path_factory.mktemp(name)
        flags = ["-std=c11", "-D_DEFAULT_SOURCE", "-shared", "-fPIC", "-O1", *options]
        output = folders[name] / "libcuda.so.1"
        subprocess.run(["gcc", *flags, FAKE, "-o", output], check=True)
    return folders


@pytest.fixture(scope="module", params=SANITIZERS)
def program(request, artifact, tmp_path_factory):
    """The artifact's own, and those that a compiler on this machine makes of its sources."""
    if request.param == "plain":
        return artifact.executable
    output = tmp_path_factory.mktemp(request.param) / "pock_train"
    runtime = artifact.directory / "runtime"
    names = (*EXECUTABLE_SOURCES, "pock_cuda.c", "pock_artifact.c")
    files = [*(runtime / name for name in names), artifact.directory / "step.o"]
    flags = ["-std=c11", "-O1", "-pthread", f"-I{runtime}", *SANITIZERS[request.param]]
    subprocess.run(["gcc", *flags, *files, "-lm", "-ldl", "-o", output], check=True)
    return output


def train(program, artifact, folder, library, **environment):
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((small_net.BATCH, 1, 8, 8), "float32")
    labels = rng.integers(0, small_net.CLASSES, small_net.BATCH).astype("int32")
    write_dataset(folder / "data", artifact.description, {small_net.INPUT: pixels}, labels)
    words = [program, "train", "--weights", artifact.weights, "--data", folder / "data"]
    words += ["--steps", 2, "--lr", 0.1, "--checkpoint", folder / "checkpoint"]
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(library), **environment},
    )


def launches_of(artifact, entry="train_step"):
    text, _ = kernels_of(artifact)
    (count,) = re.findall(rf"pock_launch_all\(POCK_{entry.upper()}, {entry}, (\d+)\)", text)
    return int(count)


def test_a_step_is_captured_once_and_everything_is_given_back(
    program, artifact, libraries, tmp_path
):
    done = train(program, artifact, tmp_path, libraries["graphs"])
    assert done.returncode == 0, done.stderr
    count = launches_of(artifact)
    said = f"fake: {count} launches, 1 captures, 2 graph launches, 0 left, depth 0"
    assert said in done.stderr
    assert (tmp_path / "checkpoint").exists()


def test_a_driver_without_graphs_launches_each_time(program, artifact, libraries, tmp_path):
    done = train(program, artifact, tmp_path, libraries["old"])
    assert done.returncode == 0, done.stderr
    count = 2 * launches_of(artifact)
    assert f"fake: {count} launches, 0 captures, 0 graph launches, 0 left" in done.stderr


@pytest.mark.parametrize(
    ("library", "environment", "says"),
    [
        ("old", {"FAKE_CUDA_FAIL": "cuInit 1"}, "cannot find a device: error 999"),
        ("old", {"FAKE_CUDA_FAIL": "cuMemAlloc_v2 2"}, "cannot take the memory that it needs: "),
        (
            "old",
            {"FAKE_CUDA_FAIL": "cuLaunchKernel 3"},
            "cannot launch a step; the state is as it was before: error 999 (CUDA_ERROR_UNKNOWN)",
        ),
        ("graphs", {"FAKE_CUDA_FAIL": "cuGraphLaunch 2"}, "cannot launch a step; the state is"),
        ("graphs", {"FAKE_CUDA_FAIL": "cuStreamSynchronize 2"}, "cannot finish a step; the state"),
        ("graphs", {"FAKE_CUDA_FAIL": "cuStreamSynchronize 3"}, "cannot finish a step; the state"),
        ("graphs", {"FAKE_CUDA_FAIL": "cuStreamSynchronize 4"}, "cannot read the state back; load"),
        (
            "graphs",
            {"FAKE_CUDA_CAPABILITY": "72"},
            "the kernels are compiled for compute capability 5.3, the device has 7.2",
        ),
    ],
)
def test_failures_are_one_line(program, artifact, libraries, tmp_path, library, environment, says):
    done = train(program, artifact, tmp_path, libraries[library], **environment)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("fake: ")]
    assert says in line
    assert " 0 left, depth 0" in done.stderr or "fake: " not in done.stderr
    assert not (tmp_path / "checkpoint").exists()


def test_a_missing_library_is_one_line(program, artifact, tmp_path):
    (tmp_path / "libcuda.so.1").touch()  # no library, and in front of one of the system
    done = train(program, artifact, tmp_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "libcuda.so.1 is not installed, and the kernels of this artifact run" in done.stderr


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_driver_compiles_without_a_warning(artifact, compiler, tmp_path):
    folder = artifact.directory / "runtime"
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{folder}", "-c"]
    for name in ("pock_cuda.c", "pock_kernels.c"):
        command = [compiler, *flags, folder / name, "-o", tmp_path / "object.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

"""Training on a Cortex-M7 without an operating system, the whole board emulated."""

import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import small_net
import torch

import pock_tvm
from examples.cortex_m7.build import HERE, MACHINE, build
from pock_tvm import PockError, Trainer
from pock_tvm.artifact.batch import input_tensors, label_tensor
from pock_tvm.frontend import load_model
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.frontend.zoo.inverted_bottlenecks import mcunet

QEMU = ("qemu-system-arm", "-M", "mps2-an500", "-nographic")
CONSOLE = ("-semihosting-config", "enable=on,target=native", "-kernel")
STEPS, RATE = 10, 1e-3  # main.c's
RAM, RAM_BYTES, STACK_BYTES = 0x20000000, 512 * 1024, 16 * 1024  # mps2_an500.ld's
TOLERANCE = 1e-4
"""Relative: sums in another order, over ten steps."""

needs_board = pytest.mark.skipif(
    not shutil.which(QEMU[0]), reason="needs qemu-system-arm (Debian package of that name)"
)


def run(program):
    """Return what the program printed and its exit status."""
    command = [*QEMU, *CONSOLE, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.stderr, done.returncode  # where qemu's console of semihosting writes


def losses_of(printed):
    return [float.fromhex(text) for text in re.findall(r"^loss (\S+)$", printed, re.M)]


def stack_of(printed):
    return int(re.search(r"^stack (\d+) bytes$", printed, re.M)[1])


def write_samples(path, description, inputs, labels):
    """Write batches as the step reads them, the tensors in the order of the manifest."""
    (tensor,), label = input_tensors(description), label_tensor(description)
    wanted = [t for t in description.tensors if t.name in (tensor.name, label.name)]
    with path.open("wb") as file:
        for batch, answers in zip(inputs, labels, strict=True):
            stored = {tensor.name: batch.transpose(tensor.axes or range(batch.ndim))}
            stored[label.name] = answers
            for each in wanted:
                assert stored[each.name].shape == each.shape
                file.write(np.ascontiguousarray(stored[each.name]).tobytes())


def ram_bytes(program):
    """Return the end of what a 32-bit ELF file lays out in RAM, stack included."""
    raw = program.read_bytes()
    assert raw[:5] == b"\x7fELF\x01"
    at, count = *struct.unpack_from("<I", raw, 32), *struct.unpack_from("<H", raw, 48)
    sections = [struct.unpack_from("<6I", raw, at + 40 * i) for i in range(count)]
    ends = [start + size for _, _, flags, start, _, size in sections if flags & 2]  # SHF_ALLOC
    return max(ends) - RAM


def host_losses(folder, inputs, labels):
    with Trainer(folder, threads=1) as trainer:
        return [trainer.step(*batch, RATE) for batch in zip(inputs, labels, strict=True)]


@pytest.fixture(scope="module")
def model():
    return load_model("small_net:build", small_net.BATCH)


@pytest.fixture(scope="module")
def artifact(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("m7") / "net"
    return pock_tvm.compile(model, folder, target="cortex-m7", optimizer="adamw").artifact


@pytest.fixture(scope="module")
def batches(model):
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((STEPS, *model.inputs[0].shape)).astype("float32")
    return inputs, generator.integers(0, small_net.CLASSES, (STEPS, model.batch)).astype("int32")


@pytest.fixture
def samples(artifact, batches, tmp_path):
    write_samples(tmp_path / "samples.bin", artifact.description, *batches)
    return tmp_path / "samples.bin"


@needs_board
def test_losses_agree_with_the_host(model, artifact, batches, samples, tmp_path):
    build(artifact.directory, samples, tmp_path / "program")
    printed, status = run(tmp_path / "program")
    assert status == 0, printed
    pock_tvm.compile(model, tmp_path / "host", optimizer="adamw")
    wanted = host_losses(tmp_path / "host", *batches)
    np.testing.assert_allclose(losses_of(printed), wanted, rtol=TOLERANCE)
    assert 0 < stack_of(printed) < STACK_BYTES


@pytest.mark.slow
@needs_board
def test_a_sparse_step_of_mcunet_takes_half_a_megabyte(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, example = mcunet(pixels=64, classes=10)
    model = import_module(module, example, 1, "mcunet")
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((STEPS, 1, 3, 64, 64)).astype("float32")
    labels = generator.integers(0, 10, (STEPS, 1)).astype("int32")
    done = pock_tvm.compile(model, tmp_path / "m7", target="cortex-m7", update="preset")
    pock_tvm.compile(model, tmp_path / "host", update="preset")
    write_samples(tmp_path / "samples.bin", done.artifact.description, inputs, labels)
    build(tmp_path / "m7", tmp_path / "samples.bin", tmp_path / "program")
    printed, status = run(tmp_path / "program")
    assert status == 0, printed
    wanted = host_losses(tmp_path / "host", inputs, labels)
    np.testing.assert_allclose(losses_of(printed), wanted, rtol=TOLERANCE)
    assert stack_of(printed) < STACK_BYTES
    regions = done.artifact.description.regions
    assert regions.state_bytes + regions.arena_bytes < ram_bytes(tmp_path / "program") <= RAM_BYTES


@needs_board
def test_wrong_input_is_told(artifact, batches, samples, tmp_path):
    build(artifact.directory, samples, tmp_path / "off", ["-DWITHOUT_FLOATING_POINT"])
    assert run(tmp_path / "off") == (
        "the floating-point unit is missing or off: "
        "set bits 20 to 23 of CPACR (0xE000ED88) first\n",
        1,
    )
    labels = batches[1].copy()
    labels[1, 2] = -7
    write_samples(samples, artifact.description, batches[0], labels)
    build(artifact.directory, samples, tmp_path / "label")
    printed, status = run(tmp_path / "label")
    wrong = f"labels[2] (flat) is -7; valid are 0 to {small_net.CLASSES - 1}\n"
    assert (len(losses_of(printed)), status) == (1, 1)
    assert printed.endswith(wrong)
    folder = tmp_path / "damaged"
    shutil.copytree(artifact.directory, folder)
    weights = bytearray(artifact.weights.read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    section = folder / "runtime" / "pock_weights.S"
    section.write_text(section.read_text() + "/* damaged */\n")  # or zig takes the object it kept
    build(folder, samples, tmp_path / "program")
    assert run(tmp_path / "program") == (
        "the weights do not have the SHA-256 of this artifact's: damaged, or of another artifact\n",
        1,
    )


def test_what_does_not_fit_does_not_link(artifact, samples, tmp_path):
    folder = tmp_path / "large"
    shutil.copytree(artifact.directory, folder)
    sizes = folder / "runtime" / "pock_sizes.h"
    sizes.write_text(re.sub(r"(ARENA_BYTES) \d+", rf"\1 {RAM_BYTES}", sizes.read_text()))
    with pytest.raises(RuntimeError, match=r"section '\.bss' will not fit in region 'RAM'"):
        build(folder, samples, tmp_path / "program")


def test_five_functions_of_the_c_library_are_enough(artifact, tmp_path):
    """All else that is missing is what Arm's ABI has a compiler bring: float64, wide division."""
    runtime = artifact.directory / "runtime"
    sources = [*runtime.glob("*.c"), artifact.directory / "step.o"]
    flags = ("-std=c11", "-O2", f"-I{runtime}", f"-I{HERE / 'freestanding'}", "-nostdlib")
    command = (sys.executable, "-m", "ziglang", "cc", *MACHINE, *flags)
    words = [*command, *sources, "-Wl,-e,pock_train_step", "-o", tmp_path / "program"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    missing = set(re.findall(r"undefined symbol: (\w+)", done.stderr))
    ours = {name for name in missing if not name.startswith("__aeabi_")}
    assert ours - {"memcmp"} == {"memcpy", "memset", "strcmp", "strlen"}  # zig compares in line


def test_there_is_no_executable(model, tmp_path):
    for option in ("executable", "library"):
        with pytest.raises(PockError, match="cortex-m7 runs no operating system"):
            pock_tvm.compile(model, tmp_path / "net", target="cortex-m7", **{option: True})
    assert not (tmp_path / "net").exists()


def test_the_artifact_has_no_program(artifact):
    assert artifact.executable is None
    assert artifact.library is None

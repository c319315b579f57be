"""Whole training steps through OpenCL, and the same steps on the processor."""

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_net
import small_transformer

import pock_tvm
from pock_tvm import PockError, Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.artifact.profiler import time_calls
from pock_tvm.frontend import load_model
from pock_tvm.optimizers import SGD
from pock_tvm.targets import get_target

STEPS, RATE = 10, 0.05
TOLERANCE = 1e-5
"""Relative, of a loss after ten steps: sums in another order, functions of another library."""
NETS = {"small_net": small_net, "small_transformer": small_transformer}


def needs_driver():
    found = list(Path("/etc/OpenCL/vendors").glob("*.icd"))
    if not found or not ctypes.util.find_library("OpenCL"):
        pytest.skip("needs an OpenCL driver (Debian packages pocl-opencl-icd, ocl-icd-libopencl1)")


def samples_of(module):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, module.CLASSES, module.BATCH)
    if module is small_transformer:
        return rng.integers(0, module.VOCABULARY, (module.BATCH, module.TOKENS)), labels
    return rng.standard_normal((module.BATCH, 1, 8, 8), "float32"), labels


@pytest.fixture(scope="module", params=NETS)
def both(request, tmp_path_factory):
    """One model for the processor and for OpenCL, and its samples."""
    needs_driver()
    module = NETS[request.param]
    model = load_model(f"{request.param}:build", module.BATCH)
    folder = tmp_path_factory.mktemp(request.param)
    for target in ("host", "opencl"):
        pock_tvm.compile(model, folder / target, target=target, optimizer=SGD(momentum=0.9))
    return folder, samples_of(module)


def test_ten_steps_agree_with_the_processor(both):
    folder, (inputs, labels) = both
    losses, weights, after = {}, {}, {}
    for target in ("host", "opencl"):
        with Trainer(folder / target, threads=1) as trainer:
            losses[target] = [trainer.step(inputs, labels, RATE) for _ in range(STEPS)]
            names = [t.name for t in trainer.description.tensors if t.trainable]
            weights[target] = {name: trainer.tensor(name).copy() for name in names}
            after[target] = trainer.evaluate(inputs, labels), trainer.predict(inputs)
    # A loss is the difference of numbers of size one to ten, whatever its own size.
    np.testing.assert_allclose(losses["opencl"], losses["host"], rtol=TOLERANCE, atol=1e-6)
    assert losses["host"][-1] < losses["host"][0]
    for name, expected in weights["host"].items():
        got = weights["opencl"][name]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    (ours, logits), (theirs, expected) = after["opencl"], after["host"]
    assert ours.loss == pytest.approx(theirs.loss, rel=TOLERANCE, abs=1e-6)
    assert ours.accuracy == theirs.accuracy
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_goes_from_one_to_the_other_and_back(both, tmp_path):
    folder, (inputs, labels) = both
    with Trainer(folder / "opencl", threads=1) as there, Trainer(folder / "host") as here:
        for _ in range(3):
            there.step(inputs, labels, RATE)
        there.save_checkpoint(tmp_path / "three")
        here.load_checkpoint(tmp_path / "three")
        fourth = [trainer.step(inputs, labels, RATE) for trainer in (here, there)]
        assert fourth[0] == pytest.approx(fourth[1], rel=TOLERANCE)
        here.save_checkpoint(tmp_path / "four")
        there.load_checkpoint(tmp_path / "four")
        there.save_checkpoint(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "four").read_bytes()


def test_a_written_tensor_reaches_the_device(both):
    folder, (inputs, _) = both
    with Trainer(folder / "opencl", threads=1) as trainer:
        before = trainer.predict(inputs)
        trainer.load_weights({"classifier.bias": trainer.tensor("classifier.bias") + 1.0})
        np.testing.assert_allclose(trainer.predict(inputs), before + 1.0, rtol=1e-5, atol=1e-5)


def test_two_sessions_share_nothing(both):
    folder, (inputs, labels) = both
    with Trainer(folder / "opencl", threads=1) as one, Trainer(folder / "opencl", threads=1) as two:
        first = one.step(inputs, labels, RATE)
        one.step(inputs, labels, RATE)
        assert two.step(inputs, labels, RATE) == first


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small net with the executable; another program than that of the tests above."""
    folder = tmp_path_factory.mktemp("small") / "net"
    model = load_model("small_net:build", small_net.BATCH)
    pock_tvm.compile(model, folder, target="opencl", update="bias", executable=True)
    return pock_tvm.load_artifact(folder)


def train(artifact, folder, **environment):
    """Train with the executable; the data are made up."""
    data = folder / "data"
    inputs, labels = samples_of(small_net)
    write_dataset(data, artifact.description, {small_net.INPUT: inputs}, labels.astype("int32"))
    command = [
        artifact.executable,
        "train",
        "--in-order",
        "--weights",
        artifact.weights,
        "--data",
        data,
    ]
    words = ["--steps", 3, "--lr", 0.1, "--checkpoint", folder / "checkpoint"]
    return subprocess.run(
        [str(word) for word in (*command, *words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_executable_trains(small, tmp_path):
    needs_driver()
    done = train(small, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step 3" in done.stdout
    assert (tmp_path / "checkpoint").exists()


def test_a_missing_library_is_one_line(small, tmp_path):
    (tmp_path / "libOpenCL.so.1").touch()  # no library, and in front of those of the system
    (tmp_path / "libOpenCL.so").touch()
    done = train(small, tmp_path, LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode
    assert done.stderr.count("\n") == 1
    assert "libOpenCL.so.1 is not installed, and the kernels of this artifact run" in done.stderr
    assert not (tmp_path / "checkpoint").exists()


def test_a_missing_driver_is_one_line(small, tmp_path):
    needs_driver()
    done = train(small, tmp_path, OCL_ICD_VENDORS=str(tmp_path))
    assert done.returncode
    assert done.stderr.count("\n") == 1
    assert "OpenCL cannot find a platform: error -1001 (no platform: no driver" in done.stderr


LOST = """
#include <dlfcn.h>
#include <stddef.h>
typedef int launch(void *, void *, unsigned, const size_t *, const size_t *, const size_t *,
                   unsigned, void *, void *);
launch clEnqueueNDRangeKernel;
static int launches;
int clEnqueueNDRangeKernel(void *queue, void *kernel, unsigned n, const size_t *offset,
                           const size_t *all, const size_t *group, unsigned waits, void *wait,
                           void *event) {
  launch *next;
  *(void **)&next = dlsym(dlopen("SYSTEM", RTLD_NOW), "clEnqueueNDRangeKernel");
  if (++launches > LIMIT) return -36;
  return next(queue, kernel, n, offset, all, group, waits, wait, event);
}
"""


def build_failing_library(folder, limit):
    """Put a library before the system's: it hands ``limit`` launches on, then the queue is gone."""
    found = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    name = ctypes.util.find_library("OpenCL")
    system = next(line.split(" => ")[1] for line in found.splitlines() if name in line)
    (folder / "lost.c").write_text(LOST.replace("LIMIT", str(limit)).replace("SYSTEM", system))
    (folder / "empty.c").write_text("")
    gcc = ["gcc", "-shared", "-fPIC"]
    # A stand-in by the name of the system's path: what the library lacks is looked for there.
    stand_in = ["empty.c", f"-Wl,-soname,{system}", "-o", "stand_in.so"]
    subprocess.run([*gcc, *stand_in], check=True, cwd=folder)
    lost = ["lost.c", "-Wl,--no-as-needed", "./stand_in.so", "-ldl", "-o", "libOpenCL.so.1"]
    subprocess.run([*gcc, *lost], check=True, cwd=folder)


def test_a_device_lost_in_a_step_leaves_the_state(both, tmp_path):
    folder, (inputs, labels) = both
    calls = pock_tvm.load_artifact(folder / "opencl").plan()["train_step"]["calls"]
    build_failing_library(tmp_path, limit=3 * len(calls))
    np.savez(tmp_path / "samples.npz", inputs=inputs, labels=labels)
    code = f"""
import numpy as np
from pock_tvm import PockError, Trainer
samples = np.load({str(tmp_path / "samples.npz")!r})
with Trainer({str(folder / "opencl")!r}, threads=1) as trainer:
    names = [t.name for t in trainer.description.tensors if t.trainable]
    for _ in range(100):
        before = {{name: trainer.tensor(name).copy() for name in names}}
        try:
            trainer.step(samples["inputs"], samples["labels"], {RATE})
        except PockError as error:
            print(error)
            break
    assert trainer.steps_done >= 1
    for name, value in before.items():
        np.testing.assert_array_equal(trainer.tensor(name), value)
    trainer.save_checkpoint({str(tmp_path / "after")!r})
"""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "OpenCL cannot launch pock_kernel_" in done.stdout
    assert "error -36 (the queue is gone; the device may be lost)" in done.stdout
    with Trainer(folder / "host") as trainer:
        trainer.load_checkpoint(tmp_path / "after")
        assert trainer.steps_done >= 1


def test_the_profiler_refuses(small):
    with pytest.raises(PockError, match=r"times kernels on the processor, and opencl runs them on"):
        time_calls(small, get_target("opencl"), threads=1, steps=1)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_driver_compiles_without_a_warning(small, compiler, tmp_path):
    folder = small.directory / "runtime"
    files = [folder / name for name in ("pock_opencl.c", "pock_kernels.c", "pock_artifact.c")]
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{folder}"]
    for file in files:
        done = subprocess.run(
            [compiler, *flags, "-c", file, "-o", tmp_path / "object.o"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

"""An artifact's ``runtime/`` builds by CMake, as docs/c-api.md has it, into what trains alike."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import fake
import numpy as np
import pytest

from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset

ROOT = Path(__file__).parents[2]
BESIDE = Path(sys.executable).parent  # where the packages `cmake` and `ninja` put theirs


def tool(name):
    found = shutil.which(name, path=BESIDE) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (extra `dev`)")
    return found


@pytest.fixture(scope="module", params=["static", "shared"])
def built(request, tmp_path_factory):
    """The document's project beside an artifact, built."""
    folder = tmp_path_factory.mktemp(request.param)
    artifact = fake.write(folder / "net")
    (project,) = re.findall(r"```cmake\n(.*?)```", (ROOT / "docs" / "c-api.md").read_text(), re.S)
    (folder / "CMakeLists.txt").write_text(project)
    shutil.copyfile(ROOT / "examples" / "c_api" / "train.c", folder / "your_program.c")
    options = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", "-DCMAKE_BUILD_TYPE=Release")
    shared = f"-DBUILD_SHARED_LIBS={'ON' if request.param == 'shared' else 'OFF'}"
    build = folder / "build"
    call(tool("cmake"), "-S", folder, "-B", build, *options, shared)
    call(tool("cmake"), "--build", build, "--target", "all", "pock_train")
    return artifact, build


def call(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr
    return done.stdout


def test_a_program_of_ones_own_trains(built):
    artifact, build = built
    x = (np.arange(fake.BATCH * fake.FEATURES) % 5 - 2).astype("float32").reshape(fake.BATCH, -1)
    labels = (np.arange(fake.BATCH) % 3).astype("int32")
    with Trainer(artifact.directory, threads=1) as trainer:
        losses = [np.float32(trainer.step(x, labels, 0.01)) for _ in range(5)]
    lines = call(build / "your_program", artifact.weights).splitlines()
    assert [np.float32(line) for line in lines] == losses


def test_the_program_of_the_artifact_trains(built, tmp_path):
    artifact, build = built
    write_dataset(tmp_path / "data", artifact.description, *fake.samples(10))
    given = ("--weights", artifact.weights, "--data", tmp_path / "data")
    (program,) = build.rglob("pock_train")
    output = call(program, "train", *given, "--in-order", "--steps", 2, "--lr", 0.01)
    losses = [float(m) for m in re.findall(r"^step \d+ loss (\S+)$", output, re.M)]
    with Trainer(artifact.directory, threads=1) as trainer:
        x, labels = fake.samples(10)
        expected = [trainer.step(x[i : i + 4], labels[i : i + 4], 0.01) for i in (0, 4)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)

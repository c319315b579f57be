"""An artifact on a processor that lacks something says so instead of dying of it."""

import shutil
import subprocess
from dataclasses import replace

import fake
import pytest
from building import RUNTIME

from pock_tvm.artifact import machine
from pock_tvm.artifact.dataset_file import write_dataset

KNOWN = (RUNTIME / "pock_machine.c").read_text()


def built(folder, name, triple, cpu):
    """Write an artifact whose kernels were compiled for ``cpu``."""
    zig = f"{triple.partition('-')[0]}-linux-musl"
    spec = fake.Machine(name, zig, (f"-mcpu={cpu.replace('-', '_')}", "-static"), triple, zig)
    options = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    made = replace(fake.description(), target=name, tvm_options=options)
    return fake.write(folder, spec, made, executable=True)


def evaluate(artifact, data, *emulator):
    write_dataset(data, artifact.description, *fake.samples(4))
    given = ("--weights", artifact.weights, "--data", data)
    line = [*emulator, artifact.executable, "evaluate", *given]
    return subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "triple", "cpu", "emulated", "missing"),
    [
        ("x86-64-v3", "x86_64-linux-gnu", "x86-64-v3", "Nehalem", "avx2"),
        ("x86-64-v3", "x86_64-linux-gnu", "x86-64-v3", "max", None),
        ("x86-64-v4", "x86_64-linux-gnu", "x86-64-v4", "max", "avx512bw"),
        ("phone", "aarch64-linux-gnu", "cortex-a76", "cortex-a53", "asimddp"),
        ("phone", "aarch64-linux-gnu", "cortex-a76", "max", None),
    ],
)
def test_the_executable_names_what_is_missing(tmp_path, name, triple, cpu, emulated, missing):
    emulator = f"qemu-{triple.partition('-')[0]}"
    if not shutil.which(emulator):
        pytest.skip(f"needs {emulator}")
    artifact = built(tmp_path / "a", name, triple, cpu)
    done = evaluate(artifact, tmp_path / "data", emulator, "-cpu", emulated)
    if missing is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1
        assert done.stderr == (
            f"pock_train: this processor lacks {missing}, which the artifact for {name} was "
            "compiled for\n"
        )


@pytest.mark.parametrize(
    "options",
    [
        {"mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3"},
        {"mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v4"},
        {"mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76", "mattr": ["+i8mm", "+bf16", "+sve"]},
        {"mtriple": "armv7a-linux-gnueabihf", "mattr": ["+neon", "+vfp4"]},
        {"mtriple": "riscv64-linux-gnu", "mattr": ["+v"]},
    ],
)
def test_the_runtime_knows_every_feature_that_is_asked_for(options):
    wanted = machine.required_features("any", options)
    assert wanted
    for feature in wanted:
        assert f'{{"{feature}", ' in KNOWN


def test_the_runtime_knows_the_features_of_this_machine():
    for feature in machine.required_features("host", {}):
        assert f'{{"{feature}", ' in KNOWN, feature

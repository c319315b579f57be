"""Two steps on made-up samples: what the device computes against what this machine does."""

import json
import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.artifact.batch import input_tensors, label_tensor
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.artifact.description import ArtifactDescription, TensorSpec
from pock_tvm.artifact.load import Artifact
from pock_tvm.artifact.machine import architecture, why_not_here
from pock_tvm.artifact.made_up import draw
from pock_tvm.deploy.connection import Connection, run_in_folder
from pock_tvm.errors import DeployError

SAMPLES = "selftest.pockdata"
STEPS, RATE = 2, 1e-3
"""The second loss depends on every gradient of the first step."""
TOLERANCE = 1e-4
"""Relative: how far the losses of two machines may differ that sum in another order."""

_EMULATORS = {
    "aarch64": "qemu-aarch64",
    "arm64": "qemu-aarch64",
    "arm": "qemu-arm",
    "armv7a": "qemu-arm",
    "armv7": "qemu-arm",
    "riscv64": "qemu-riscv64",
    "hexagon": "qemu-hexagon",
    "x86_64": "qemu-x86_64",
}


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """What the device computed."""

    losses: tuple[float, ...]
    expected: tuple[float, ...] | None
    """None where nothing on this machine can tell."""
    expected_from: str
    step_ms: float
    peak_bytes: int
    threads: int


def made_up_samples(
    description: ArtifactDescription,
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return one step's inputs by name, and its labels; the same ones each time."""
    generator = np.random.default_rng(0)
    count = description.batch * description.accumulate
    label = label_tensor(description)

    def drawn(tensor: TensorSpec) -> np.ndarray:
        return draw(generator, tensor, (count, *tensor.original_shape[1:]))

    inputs = {tensor.name: drawn(tensor) for tensor in input_tensors(description)}
    return inputs, None if label is None else drawn(label)


def write_samples(path: Path, description: ArtifactDescription) -> None:
    """Write one step's samples to a file."""
    write_dataset(path, description, *made_up_samples(description))


def train_words(samples: str) -> tuple[str, ...]:
    """Return the arguments of ``pock_train`` for the test."""
    given = ("--weights", "weights.safetensors", "--data", samples)
    return ("train", *given, "--in-order", "--steps", str(STEPS), "--lr", str(RATE))


def expected_losses(
    artifact: Artifact, reference: Path | None, samples: Path
) -> tuple[tuple[float, ...] | None, str]:
    """Compute the losses on this machine, and say how: by a host artifact, or by an emulator."""
    if reference is not None:
        from pock_tvm.artifact.dataset_file import read_dataset
        from pock_tvm.artifact.export import original_layout_of
        from pock_tvm.trainer import Trainer

        stored = read_dataset(samples, artifact.description)
        given = {
            name: original_layout_of(artifact.description.tensor(name), array)
            for name, array in stored.items()
        }
        with Trainer(reference) as trainer:
            label = label_tensor(trainer.description)
            labels = given.pop(label.name) if label else None
            losses = tuple(trainer.step(given, labels, RATE) for _ in range(STEPS))
        return losses, f"the artifact {reference}"
    options = artifact.description.tvm_options
    emulator = shutil.which(_EMULATORS.get(architecture(options), ""))
    here = why_not_here(options, list(artifact.cpu_features)) is None
    if not (here or (emulator and "linux" in str(options.get("mtriple")))):
        return None, "nothing here runs it; give a host artifact of the model as the reference"
    runner = [] if here or emulator is None else [emulator]
    command = [*runner, str(artifact.executable), *train_words(str(samples))]
    done = subprocess.run(command, capture_output=True, cwd=artifact.directory, check=False)
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return None, f"the executable failed on this machine: {''.join(why)}"
    return parse_run(done.stdout)[0], Path(runner[0]).name if runner else "this machine"


def run_self_test(
    connection: Connection,
    runner: Sequence[str],
    expected: tuple[float, ...] | None,
    expected_from: str,
) -> SelfTest:
    """Run the test on the device and compare.

    Raises:
        DeployError: it does not run there, or computes something else.
    """
    script, *arguments = run_in_folder(runner, *train_words(SAMPLES))
    output = connection.run(script, connection.place.path, *arguments)
    losses, summary = parse_run(output)
    if len(losses) != STEPS or not all(map(math.isfinite, losses)):
        raise DeployError(f"{connection.place} gave the losses {losses}; a step is broken there")
    if expected is not None and not np.allclose(losses, expected, rtol=TOLERANCE, atol=0):
        raise DeployError(
            f"{connection.place} computes something else: losses {losses}, "
            f"expected {expected} ({expected_from})"
        )
    return SelfTest(
        losses=losses,
        expected=expected,
        expected_from=expected_from,
        step_ms=float(summary["step_ms"]),
        peak_bytes=int(summary["peak_bytes"]),
        threads=int(summary["threads"]),
    )


def parse_run(output: bytes) -> tuple[tuple[float, ...], dict[str, Any]]:
    """Take the losses and the summary out of what ``pock_train train`` wrote.

    Raises:
        DeployError: it wrote something else.
    """
    lines = output.decode(errors="replace").splitlines()
    try:
        steps = tuple(float(line.split()[3]) for line in lines if line.startswith("step "))
        return steps, json.loads(lines[-1])
    except (ValueError, IndexError):
        raise DeployError(f"pock_train wrote what no run writes: {lines[-1:]}") from None

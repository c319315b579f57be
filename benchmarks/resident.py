"""Compare what a plan says with the memory that the standalone executable really takes.

``python -m benchmarks.memory --resident …`` calls it. The peak is the kernel's own count
(``VmHWM``) when the program ends: anonymous memory, every page of the weights file that was
touched, and the program itself. A plan counts weights once, whether they are mapped or learn.
Samples are read from a file that is larger than the step's inputs, so that a program which kept
them would be seen.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import pock_tvm
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.artifact.description import ArtifactDescription, Regions, TensorSpec
from pock_tvm.frontend import ImportedModel
from pock_tvm.update import UpdateScheme

STEPS, LEARNING_RATE, RECORDS_PER_SAMPLE = 3, 1e-4, 4
ALLOWED_BYTES = 2_000_000
"""Beside the plan: the program's code, stacks, tables of pages of a file."""


def measure(
    model: ImportedModel, update: str | UpdateScheme, optimizer: str, loss: str, threads: int = 1
) -> dict[str, Any]:
    """Compile, train some steps in a fresh process, and return planned beside resident bytes."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = pock_tvm.compile(
            model,
            Path(folder) / "artifact",
            update=update,
            optimizer=optimizer,
            loss=loss,
            executable=True,
            library=False,
        )
        artifact = compiled.artifact
        description = artifact.description
        data = Path(folder) / "samples.pockdata"
        write_dataset(data, description, *random_samples(description))
        command = [artifact.executable, "train", "--weights", artifact.weights, "--data", data]
        command += ["--steps", STEPS, "--lr", LEARNING_RATE, "--threads", threads]
        summary, anonymous, of_files = _run([str(word) for word in command])
        sample_bytes = data.stat().st_size
        weights_bytes = compiled.report()["weights_bytes"]
    planned = planned_bytes(description.regions, threads)
    return {
        "threads": threads,
        "planned_bytes": planned,
        "resident_bytes": summary["peak_bytes"],
        "excess_bytes": summary["peak_bytes"] - planned,
        "holds": summary["peak_bytes"] <= planned + ALLOWED_BYTES,
        "anonymous_bytes": anonymous,
        "file_bytes": of_files,
        "weights_bytes": weights_bytes,
        "sample_file_bytes": sample_bytes,
        "loss": summary["loss"],
    }


def planned_bytes(regions: Regions, threads: int) -> int:
    """Return what a session takes: weights, optimizer state, transients, scratch of all threads."""
    whole = regions.frozen_bytes + regions.state_bytes + regions.arena_bytes
    return whole + regions.workspace_bytes_per_thread * threads


def random_samples(
    description: ArtifactDescription,
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return inputs by name, and labels, for some batches."""
    generator = np.random.default_rng(0)
    drawn = {t.name: _random(t, generator) for t in description.sample_tensors}
    (label,) = [t.name for t in description.sample_tensors if t.role == "label"] or [None]
    return {n: a for n, a in drawn.items() if n != label}, drawn.get(label) if label else None


def _random(tensor: TensorSpec, generator: np.random.Generator) -> np.ndarray:
    count, *rest = tensor.original_shape
    shape = (count * RECORDS_PER_SAMPLE, *rest)
    if tensor.limit is not None:
        return generator.integers(0, tensor.limit, shape).astype(tensor.dtype)
    if tensor.dtype.startswith(("int", "bool", "uint")):
        return np.ones(shape, tensor.dtype)  # a mask of attention that hides nothing
    return generator.standard_normal(shape).astype(tensor.dtype)


def _run(command: list[str]) -> tuple[dict[str, Any], int, int]:
    """Run the program; return its summary and the most anonymous and file bytes seen meanwhile."""
    most = {"RssAnon": 0, "RssFile": 0}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            _look(process.pid, most)
    if process.returncode:
        sys.exit(f"{command[0]} failed with {process.returncode}")
    return json.loads(lines[-1]), most["RssAnon"], most["RssFile"]


def _look(process: int, most: dict[str, int]) -> None:
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return
    for name in most:
        found = re.search(rf"^{name}:\s+(\d+) kB", text, re.M)
        most[name] = max(most[name], 1024 * int(found.group(1)) if found else 0)

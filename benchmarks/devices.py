"""Train ten steps of small models as compiled for each kind of device, and compare the losses.

    nice python -m benchmarks.devices --models mcunet,llama_tiny --targets raspberry-pi-4,riscv64

Each case compiles a model under an update scheme for a target, runs the executable natively or in
an emulator, and prints one JSON line: its losses, the largest relative difference to those of the
host's own artifact, and the sizes of the executable and of its memory. ``--save`` appends the line
to ``benchmarks/results/devices.jsonl``; a case that stands there is run again only if
``--again`` says so. An emulator shows that code is right, never how fast it is: nothing is timed.
The run fails where losses differ by more than 1e-4, from the host's or among targets.
"""

import argparse
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pock_tvm
from benchmarks.device_models import MODELS, RESNET18_SPARSE, SMOOTH_MODELS
from pock_tvm.artifact.load import Artifact
from pock_tvm.deploy.self_test import write_samples
from pock_tvm.frontend import ImportedModel
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.targets import TargetSpec, get_target

RESULTS = Path(__file__).parent / "results" / "devices.jsonl"
TARGETS = (
    "raspberry-pi-4",
    "raspberry-pi-zero",
    "android-arm64",
    "apple-m1",
    "hexagon-v68",
    "riscv64",
    "x86-64-v3",
)
STEPS, BATCH = 10, 1
TOLERANCE = 1e-4
"""Relative: sums in another order, over ten steps."""
RATES = {
    "mobilenet_v2_96 full": 3e-5,
    "mcunet full": 3e-5,
    "mobilenet_v2_96_smooth full": 3e-5,
    "resnet18_64 full": 1e-4,
    "resnet18_64 preset": 1e-4,
    "llama_tiny full": 1e-1,
    "llama_tiny preset": 1e-1,
}
"""Large enough that losses move by thousands of times the tolerance. Where all of a deep ReLU6 net
learns, larger ones tell nothing: two orders of summation put activations on two sides of a bend."""
RATE = 1e-2


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the cases that no result stands for yet, and return their rows."""
    options = _parse(arguments)
    known = [] if options.again else recorded()
    rows = []
    for name in options.models.split(","):
        for update in options.updates.split(","):
            done = {r["target"]: r for r in known if (r["model"], r["update"]) == (name, update)}
            todo = [t for t in options.targets.split(",") if t not in done]
            for row in run_cases(name, update, todo) if todo else ():
                rows.append(row)
                print(json.dumps(row), flush=True)
                if options.save:
                    with RESULTS.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
    wrong = disagreements([*known, *rows])
    if wrong:
        sys.exit("\n".join(wrong))
    return rows


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--updates", default="full,preset")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--save", action="store_true", help=f"append the rows to {RESULTS.name}")
    parser.add_argument("--again", action="store_true", help="also cases that have a result")
    return parser.parse_args(arguments)


def recorded() -> list[dict[str, Any]]:
    """Return the last recorded row of each case."""
    if not RESULTS.exists():
        return []
    rows = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())
    return list({(r["model"], r["update"], r["target"]): r for r in rows}.values())


def disagreements(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Say which losses are further apart than the tolerance: from the host's, or two targets'."""
    said, cases = [], list(rows)
    for row in cases:
        case = f"{row['model']} {row['update']}"
        if not row["worst_difference"] <= TOLERANCE:
            said.append(f"{case}: {row['target']} is {row['worst_difference']:.1e} off the host")
        for other in cases:
            same = (other["model"], other["update"]) == (row["model"], row["update"])
            if same and other["target"] < row["target"]:
                apart = worst_difference(row["losses"], other["losses"])
                if not apart <= TOLERANCE:
                    said.append(f"{case}: {row['target']}, {other['target']}: {apart:.1e} apart")
    return said


def worst_difference(losses: Sequence[float], wanted: Sequence[float]) -> float:
    """Return the largest relative difference of two runs; NaN counts as the worst."""
    assert len(losses) == len(wanted)
    apart = np.abs(np.subtract(losses, wanted)) / np.abs(wanted)
    return float("inf") if np.isnan(apart).any() else float(apart.max())


def run_cases(name: str, update: str, targets: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Yield the row of each target; the host's artifact is compiled once for all of them."""
    module, example = {**MODELS, **SMOOTH_MODELS}[name]()
    model = import_module(module, example, BATCH, name)
    scheme = RESNET18_SPARSE if (name, update) == ("resnet18_64", "preset") else update
    rate = RATES.get(f"{name} {update}", RATE)
    with tempfile.TemporaryDirectory() as folder:
        host = _compile(model, scheme, get_target("host"), Path(folder) / "host")
        data = Path(folder) / "samples"
        write_samples(data, host.description)
        wanted = losses_of(host, (), data, rate)
        for target in targets:
            spec = runnable(target)
            print(f"{name} {update} {target}", file=sys.stderr, flush=True)
            built = _compile(model, scheme, spec, Path(folder) / "net")
            losses = losses_of(built, spec.emulator, data, rate)
            regions = built.description.regions
            yield {
                "model": name,
                "update": update,
                "target": target,
                "batch": BATCH,
                "learning_rate": rate,
                "runs_on": " ".join(spec.emulator) or "this machine",
                "worst_difference": float(f"{worst_difference(losses, wanted):.3g}"),
                "losses": losses,
                "executable_bytes": built.files["pock_train"],
                "weights_file_bytes": built.files["weights.safetensors"],
                "frozen_bytes": regions.frozen_bytes,
                "state_bytes": regions.state_bytes,
                "transient_bytes": regions.arena_bytes,
                "workspace_bytes_per_thread": regions.workspace_bytes_per_thread,
            }


def _compile(model: ImportedModel, update: Any, spec: TargetSpec, folder: Path) -> Artifact:
    done = pock_tvm.compile(model, folder, target=spec, update=update, executable=True)
    return done.artifact


def runnable(name: str) -> TargetSpec:
    """Return a target that this machine runs: of Apple's, its kernels under Linux."""
    spec = get_target(name)
    if spec.tvm_options["mtriple"].startswith("x86_64-linux"):
        return dataclasses.replace(spec, emulator=())  # an illegal instruction would be reported
    if spec.emulator:
        if not shutil.which(spec.emulator[0]):
            sys.exit(f"{name} needs {spec.emulator[0]} (Debian package qemu-user)")
        return spec
    return dataclasses.replace(
        spec,
        name=f"{name}-linux",
        tvm_options={**spec.tvm_options, "mtriple": "aarch64-linux-gnu"},
        zig_target="aarch64-linux-musl",
        emulator=("qemu-aarch64", "-cpu", "max"),
    )


def losses_of(artifact: Artifact, emulator: Sequence[str], data: Path, rate: float) -> list[float]:
    """Run the steps by the artifact's executable and return their losses."""
    command = [*emulator, artifact.executable, "train", "--weights", artifact.weights]
    options = ["--data", data, "--lr", rate, "--steps", STEPS, "--threads", 1, "--in-order"]
    words = [str(word) for word in (*command, *options)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{artifact.description.target}: {done.stderr.strip()}")
    losses = [float(found) for found in re.findall(r"^step \d+ loss (\S+)$", done.stdout, re.M)]
    assert len(losses) == STEPS
    return losses


if __name__ == "__main__":
    main()

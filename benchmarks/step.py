"""Time one training step against peers: same weights, same batch, interleaved, in one run.

    python -m benchmarks.step --model mobilenet_v2 --batch 1 --threads 1 --against torch

Prints one JSON line per system: ``system, model, batch, update, optimizer, threads, step_ms`` (the
median), ``peak_bytes, loss, ratio`` and the machine. Systems take turns, A B A B, after the same
number of warm-up steps, so that all see the machine's drift; a turn is two steps of which the
second is timed, for in training a step follows one of its own; who is not in turn is stopped, or
its threads would spin beside. ``ratio`` is the median of the
quotients of neighbouring steps, ours over the peer's. ``loss`` is that of the last step. The run
fails where two systems differ by more than 1e-5 in the first loss (MNN by 1e-3), or by more than
another 0.5 % in what the first update took off it. That is the room which rounding takes in a deep
net: for MobileNetV2, batch 1, float64 loses 0.33704 in its first update, PyTorch 0.33705,
TensorFlow 0.33718, pock 0.33678, JAX 0.33673, for where a value meets the corner of a ReLU6,
float32 sends its gradient the one way or the other. A peer with ``same_update: false`` learns other
parameters, for its batch norms are folded or MNN leaves some frozen: of its losses only the first
is compared.

All systems run with an allocator that keeps what it was given (``MALLOC_MMAP_MAX_=0``), for page
faults take up to a quarter of a step of PyTorch's. Where memory is measured, it is as it comes.

Peak memory comes from a fresh process per system: the high-water mark of its resident set over
three steps, less what was resident once the libraries were loaded. So it holds weights, optimizer
state and transients, and no libraries.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import SYSTEMS, Task

RESULTS = Path(__file__).parent / "results"
MEMORY_STEPS = 3
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""What glibc reads when a process starts: keep memory for later, do not give it back."""
UPDATE_LIMIT = 5e-3
"""By what part two systems may differ in how much an update takes off the loss."""
LEARNS = "learns.json"
"""The names that learn, beside the systems' own files, for the processes that measure memory."""


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the benchmark and return its rows."""
    options = _parse(arguments)
    names = ["pock", *[n for n in options.against.split(",") if n]]
    unknown = sorted(set(names) - set(SYSTEMS))
    if unknown:
        sys.exit(f"unknown systems {unknown}; known are {', '.join(SYSTEMS)}")
    if options.measure_memory_of:
        learns = json.loads((options.folder / LEARNS).read_text(encoding="utf-8"))
        measured = _memory(options.measure_memory_of, _task(options, learns), options.folder)
        sys.stdout.write(json.dumps(measured))
        return []
    with tempfile.TemporaryDirectory() as folder:
        task = _task(options, _learned_names(options, Path(folder)))
        rows = _timed(names, task, Path(folder), options.steps, options.warmup)
        for row in rows:
            row.update(_memory_in_fresh_process(row["system"], options, folder))
    for row in rows:
        print(json.dumps(row), flush=True)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        today = datetime.datetime.now(tz=datetime.timezone.utc).date()
        model = re.sub(r"\W+", "-", options.model)
        path = RESULTS / f"{today}-{_core()}-{model}.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return rows


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="zoo name, or package.module:function")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--update", default="full", help="as for `pock compile`")
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", default="torch", help="systems, separated by commas")
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each system")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="append the rows to benchmarks/results")
    parser.add_argument("--measure-memory-of", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _task(options: argparse.Namespace, learns: Sequence[str]) -> Task:
    return Task(
        options.model,
        options.batch,
        options.update,
        options.optimizer,
        options.learning_rate,
        options.threads,
        tuple(learns),
    )


def _learned_names(options: argparse.Namespace, folder: Path) -> tuple[str, ...]:
    from benchmarks.peers.selection import learned_names

    names = learned_names(options.model, options.update)
    (folder / LEARNS).write_text(json.dumps(names), encoding="utf-8")
    return names


def _timed(
    names: list[str], task: Task, folder: Path, steps: int, warmup: int
) -> list[dict[str, Any]]:
    # A module that one system trains must not be another's: each gets a task, and builds its own.
    systems = [SYSTEMS[name](dataclasses.replace(task), folder) for name in names]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + steps):
        for system in systems:
            losses[system.name].append(system.step())  # its data are in the caches again
            begin = time.perf_counter()
            losses[system.name].append(system.step())
            spent = time.perf_counter() - begin
            if turn >= warmup:
                seconds[system.name].append(system.seconds or spent)
    for system in systems:
        system.close()
    for system in systems:
        name, comparable = system.name, 2 if system.same_update else 1
        pairs = zip(losses[name][:comparable], losses["pock"][:comparable], strict=True)
        for i, (theirs, ours) in enumerate(pairs):
            taken_off = abs(ours - losses["pock"][0])
            if abs(theirs - ours) > system.loss_limit * abs(ours) + UPDATE_LIMIT * taken_off:
                sys.exit(
                    f"{name} has loss {theirs} after {i} updates, pock {ours}: "
                    "they do not do the same work"
                )
    return [
        {
            "system": system.name,
            "model": task.model,
            "batch": task.batch,
            "update": task.update,
            "optimizer": task.optimizer,
            "threads": task.threads,
            "step_ms": round(1e3 * statistics.median(seconds[system.name]), 3),
            "step_ms_min": round(1e3 * min(seconds[system.name]), 3),
            "step_ms_max": round(1e3 * max(seconds[system.name]), 3),
            "loss": losses[system.name][-1],
            "same_update": system.same_update,
            "ratio": _ratio(seconds["pock"], seconds[system.name]),
            "planned_bytes": system.planned_bytes(),
            "core": _core(),
            "machine": platform.machine(),
        }
        for system in systems
    ]


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def _core() -> str:
    from pock_tvm.targets import get_target

    return get_target("host").core


def _memory_in_fresh_process(name: str, options: argparse.Namespace, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.step", "--measure-memory-of", name]
    for option in ("model", "batch", "update", "optimizer", "threads", "learning_rate"):
        command += [f"--{option.replace('_', '-')}", str(getattr(options, option))]
    command += ["--folder", folder]
    plain = {k: v for k, v in os.environ.items() if k not in KEEPING}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    if done.returncode:
        sys.exit(f"measuring the memory of {name} failed: {done.stderr.strip()[-300:]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _memory(name: str, task: Task, folder: Path) -> dict[str, int]:
    """Return the peak of the resident set over some steps, less that of the libraries."""
    SYSTEMS[name].load_libraries(task)
    before = _status_bytes("VmRSS")
    system = SYSTEMS[name].for_memory(task, folder)
    for _ in range(MEMORY_STEPS):
        system.step()
    elsewhere = system.peak_bytes()
    system.close()
    return {"peak_bytes": _status_bytes("VmHWM") - before if elsewhere is None else elsewhere}


def _status_bytes(field: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    match = re.search(rf"^{field}:\s+(\d+) kB", text, re.M)
    assert match, f"/proc/self/status has no {field}"
    return 1024 * int(match.group(1))


if __name__ == "__main__":
    if "--measure-memory-of" not in sys.argv and not KEEPING.keys() <= os.environ.keys():
        command = [sys.executable, "-m", "benchmarks.step", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **KEEPING})
    main()

"""Time the start of ``pock_train``: from the call of the program to the end of its first step.

    python -m benchmarks.start net --data samples.pockdata

What the first step takes beyond those after it is the start: the program is loaded, the weights
file is hashed and mapped, weights that learn are read into the state, pages are touched for the
first time. The file is in the page cache: a first run is left out. Medians of fresh processes.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from pock_tvm import load_artifact
from pock_tvm.artifact.load import Artifact

STEPS, PROCESSES, RATE = 5, 7, 1e-4


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Print and return a row for each artifact."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("artifact", nargs="+", help="folder with pock_train, for this machine")
    parser.add_argument("--data", nargs="+", required=True, help="a .pockdata file for each")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    rows = []
    for folder, data in zip(options.artifact, options.data, strict=True):
        row = {"artifact": Path(folder).name, "threads": options.threads}
        rows.append(row | measure(load_artifact(folder), Path(data), options.threads))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def measure(artifact: Artifact, data: Path, threads: int) -> dict[str, Any]:
    """Return medians in milliseconds, and page faults, of fresh processes."""
    words = [artifact.executable, "train", "--weights", artifact.weights, "--data", data]
    words += ["--lr", RATE, "--steps", STEPS, "--threads", threads, "--in-order"]
    command = [str(word) for word in words]
    runs = [_run(command) for _ in range(PROCESSES + 1)][1:]
    first, later, faults = (statistics.median(run[i] for run in runs) for i in range(3))
    return {
        "first_step_done_ms": round(first, 1),
        "later_step_ms": round(later, 1),
        "start_ms": round(statistics.median(run[0] - run[1] for run in runs), 1),
        "page_faults": int(faults),
        "weights_bytes": artifact.weights.stat().st_size,
        "state_bytes": artifact.description.regions.state_bytes,
    }


def _run(command: list[str]) -> tuple[float, float, int]:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ends = []
        for line in process.stdout:
            if line.startswith(b"step "):
                ends.append(time.perf_counter())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or len(ends) != STEPS:
        raise SystemExit(f"{command[0]} failed with {process.returncode}")
    steps = [1e3 * (b - a) for a, b in itertools.pairwise(ends)]
    return 1e3 * (ends[0] - began), statistics.median(steps), usage.ru_minflt + usage.ru_majflt


if __name__ == "__main__":
    main()

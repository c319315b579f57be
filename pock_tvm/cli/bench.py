"""``pock bench``: how long a training step of one or several artifacts takes here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click

from pock_tvm.cli.options import json_option, key_option, rpc_option, threads_option
from pock_tvm.cli.output import format_seconds, print_json, print_rows, print_table
from pock_tvm.cli.progress import ProgressLine
from pock_tvm.cli.rpc_devices import check_rpc, devices_of, tuned_spec

_MOST_ROWS = 15


@click.command("bench")
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@threads_option
@click.option(
    "--steps", type=click.IntRange(1), default=30, show_default=True, help="Of each artifact."
)
@rpc_option
@key_option
@json_option
def bench_command(
    *,
    directories: tuple[Path, ...],
    threads: int | None,
    steps: int,
    rpc: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Time training steps of the artifacts in DIRECTORIES, one step of each in turn.

    Samples are made up and the learning rate is 0; nothing is written. Where the machine does
    other work too, trust the processor time, of one thread. The last column compares the steps
    of one round. What a step takes on another machine, `pock deploy` prints; with --rpc, the
    kernels of a step are timed one by one on all free devices of a TVM RPC tracker.

    \b
    $ pock bench full preset --threads 1
    30 steps in turn, 1 threads
      artifact  median ms     quartiles ms  least ms   CPU ms  samples/s  of the first
      full        415.607  346.392-626.640   321.228  340.948       19.2          100%
      preset      114.396   94.229-172.076    86.884   93.755       69.9           27%
    """
    check_rpc(rpc, key)
    if rpc is not None:
        tables = [bench_kernels(d, rpc, key, threads=threads, runs=steps) for d in directories]
        if as_json:
            print_json({"runs": steps, "artifacts": tables})
            return
        for table in tables:
            _print_kernels(table, steps)
        return
    result = bench(directories, threads=threads, steps=steps)
    if as_json:
        print_json(result)
        return
    columns = ("artifact", "median ms", "quartiles ms", "least ms", "CPU ms", "samples/s")
    print_table(
        f"{steps} steps in turn, {result['threads']} threads",
        (*columns, "of the first"),
        [
            (
                row["artifact"],
                f"{row['median_ms']:.3f}",
                f"{row['quartiles_ms'][0]:.3f}-{row['quartiles_ms'][1]:.3f}",
                f"{row['least_ms']:.3f}",
                f"{row['cpu_median_ms']:.3f}",
                f"{row['samples_per_s']:.1f}",
                f"{row['of_first']:.0%}",
            )
            for row in result["artifacts"]
        ],
    )


def bench(directories: Sequence[Path], *, threads: int | None, steps: int) -> dict[str, Any]:
    """Return the measures of each artifact, every artifact checked before the first one runs."""
    from pock_tvm.artifact.load import load_artifact
    from pock_tvm.artifact.session import usable_cores
    from pock_tvm.artifact.step_times import time_steps

    artifacts = [load_artifact(directory) for directory in directories]
    for artifact in artifacts:
        artifact.runnable_library()
    count = threads or usable_cores()
    times = time_steps(artifacts, threads=count, steps=steps)
    rows = []
    for directory, artifact, its in zip(directories, artifacts, times, strict=True):
        description = artifact.description
        samples = description.batch * description.accumulate
        wall_ms = [ns / 1e6 for ns in its.wall_ns]
        cuts = quantiles(wall_ms, n=4, method="inclusive") if steps > 1 else wall_ms * 3
        rounds = zip(its.wall_ns, times[0].wall_ns, strict=True)
        rows.append(
            {
                "artifact": str(directory),
                "model": description.model,
                "target": description.target,
                "samples": samples,
                "median_ms": cuts[1],
                "quartiles_ms": [cuts[0], cuts[2]],
                "least_ms": min(wall_ms),
                "cpu_median_ms": median(its.cpu_ns) / 1e6,
                "samples_per_s": samples / cuts[1] * 1e3,
                "of_first": median(own / first for own, first in rounds),
                "steps_ms": wall_ms,
            }
        )
    return {"threads": count, "steps": steps, "artifacts": rows}


def bench_kernels(
    directory: Path, rpc: str, key: str | None, *, threads: int | None, runs: int
) -> dict[str, Any]:
    """Return the times of the kernels of an artifact's step on the devices of a tracker."""
    from pock_tvm.artifact.load import load_artifact

    artifact = load_artifact(directory)
    spec = tuned_spec(artifact, is_remote=True)
    count = threads or spec.cores
    from pock_tvm.tuning.step_kernels import time_step_kernels

    with ProgressLine() as progress, devices_of(rpc, key, count) as devices:
        rows = time_step_kernels(artifact, spec, devices, runs=runs, progress=progress)
        names = [device.name for device in devices]
    return {
        "artifact": str(directory),
        "model": artifact.description.model,
        "target": spec.name,
        "threads": count,
        "devices": names,
        "kernels_ms": sum(row.step_ms for row in rows),
        "kernels": [{**asdict(row), "step_ms": row.step_ms} for row in rows],
    }


def _print_kernels(table: Mapping[str, Any], runs: int) -> None:
    whole = table["kernels_ms"]
    print_rows(
        f"{table['artifact']}: {table['model']} for {table['target']}, "
        f"{table['threads']} threads, {runs} runs",
        {
            "devices": ", ".join(table["devices"]),
            "kernels of a step, one by one": format_seconds(whole / 1e3),
        },
    )
    print_table(
        "slowest kernels",
        ("kernel", "calls", "µs a call", "ms a step", "share", "device"),
        [
            (
                row["kernel"],
                row["calls"],
                f"{row['us']:.1f}",
                f"{row['step_ms']:.3f}",
                f"{row['step_ms'] / whole:.1%}",
                row["device"],
            )
            for row in table["kernels"][:_MOST_ROWS]
        ],
    )

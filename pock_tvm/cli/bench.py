"""``pock bench``: how long a training step of one or several artifacts takes here."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click

from pock_tvm.cli.options import json_option, threads_option
from pock_tvm.cli.output import print_json, print_table


@click.command("bench")
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@threads_option
@click.option(
    "--steps", type=click.IntRange(1), default=30, show_default=True, help="Of each artifact."
)
@json_option
def bench_command(
    *, directories: tuple[Path, ...], threads: int | None, steps: int, as_json: bool
) -> None:
    """Time training steps of the artifacts in DIRECTORIES, one step of each in turn.

    Samples are made up and the learning rate is 0; nothing is written. Where the machine does
    other work too, trust the processor time, of one thread. The last column compares the steps
    of one round. What a step takes on another machine, `pock deploy` prints.

    \b
    $ pock bench full preset --threads 1
    30 steps in turn, 1 threads
      artifact  median ms     quartiles ms  least ms   CPU ms  samples/s  of the first
      full        415.607  346.392-626.640   321.228  340.948       19.2          100%
      preset      114.396   94.229-172.076    86.884   93.755       69.9           27%
    """
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

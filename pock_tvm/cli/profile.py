"""``pock profile``: where the time of a training step goes, kernel by kernel."""

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.options import artifact_argument, json_option, threads_option
from pock_tvm.cli.output import format_seconds, print_json, print_rows, print_table

if TYPE_CHECKING:
    from pock_tvm.report.profile import CallProfile


@click.command("profile")
@artifact_argument
@threads_option
@click.option(
    "--steps", type=click.IntRange(1), default=20, show_default=True, help="Medians over so many."
)
@click.option(
    "--top", type=click.IntRange(1), default=15, show_default=True, help="Slowest kernels to list."
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the step as a trace for chrome://tracing or Perfetto.",
)
@json_option
def profile_command(
    *,
    directory: Path,
    threads: int | None,
    steps: int,
    top: int,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Time every kernel of a training step of the artifact in DIRECTORY.

    A program is linked for it and run here, on made-up inputs. Its shares of the roofline are
    shares of what it measures on this machine: multiply-adds in registers, bytes through the cache
    and through memory.

    \b
    $ pock profile net --threads 1 --top 3
    distilbert on host, 1 threads, 20 steps
      step                          415.88 ms
      in kernels, timed one by one  417.17 ms
      share of the roofline         78%
      one core                      113 GFLOP/s, 102 GB/s in cache, 21.4 GB/s in memory
    slowest kernels
      kernel         calls      ms  share  GFLOP/s  GB/s  roofline  layers
      matmul_add_11      6  47.017  11.3%     77.1   1.5       68%  ...layer.0.ffn.lin2 and 5 more
      matmul_33          6  45.009  10.8%     80.5   1.5       71%  ...layer.5.ffn.lin1 and 5 more
      matmul_32          6  43.985  10.5%     82.4   1.6       73%  ...layer.5.ffn.lin2 and 5 more
    """
    from pock_tvm.artifact.load import load_artifact
    from pock_tvm.artifact.profiler import time_calls
    from pock_tvm.report.profile import profile_calls, profile_kernels, trace_events
    from pock_tvm.targets import get_target

    artifact = load_artifact(directory)
    description = artifact.description
    spec = get_target(description.target)
    count = threads or spec.cores
    timings = time_calls(artifact, spec, threads=count, steps=steps)
    weights = [t.name for t in description.tensors if t.role in ("weight", "statistic")]
    calls = profile_calls(artifact.plan()["train_step"], timings, count, weights)
    kernels = profile_kernels(calls)
    if trace is not None:
        trace.write_text(json.dumps(trace_events(calls)), encoding="utf-8")
    whole: dict[str, Any] = {
        "step_ms": median(timings.steps_ns) / 1e6,
        "kernels_ms": sum(call.ns for call in calls) / 1e6,
        "roofline": _roofline(calls),
        "threads": count,
        "steps": steps,
        "peak_gflop_per_s": timings.flops_per_s / 1e9,
        "cache_gbyte_per_s": timings.cache_bytes_per_s / 1e9,
        "memory_gbyte_per_s": timings.memory_bytes_per_s / 1e9,
    }
    if as_json:
        print_json(
            {
                "model": description.model,
                "target": description.target,
                **whole,
                "kernels": [asdict(row) for row in kernels],
                "calls": [asdict(call) for call in calls],
            }
        )
        return
    print_rows(
        f"{description.model} on {description.target}, {count} threads, {steps} steps",
        {
            "step": format_seconds(whole["step_ms"] / 1e3),
            "in kernels, timed one by one": format_seconds(whole["kernels_ms"] / 1e3),
            "share of the roofline": f"{whole['roofline']:.0%}",
            "one core": f"{whole['peak_gflop_per_s']:.0f} GFLOP/s, "
            f"{whole['cache_gbyte_per_s']:.0f} GB/s in cache, "
            f"{whole['memory_gbyte_per_s']:.1f} GB/s in memory",
        },
    )
    print_table(
        "slowest kernels",
        ("kernel", "calls", "ms", "share", "GFLOP/s", "GB/s", "roofline", "layers"),
        [
            (
                row.kernel,
                row.calls,
                f"{row.ms:.3f}",
                f"{row.share:.1%}",
                f"{row.gflop_per_s:.1f}",
                f"{row.gbyte_per_s:.1f}",
                f"{row.roofline:.0%}",
                _short(row.layers),
            )
            for row in kernels[:top]
        ],
    )


def _roofline(calls: "list[CallProfile]") -> float:
    return sum(call.roofline_ns for call in calls) / sum(call.ns for call in calls)


def _short(layers: tuple[str, ...]) -> str:
    """Return the first layer, and how many more there are."""
    if len(layers) < 2:
        return "".join(layers)
    return f"{layers[0]} and {len(layers) - 1} more"

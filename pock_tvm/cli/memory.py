"""The byte counts of an artifact, by what they are for, and what fewer would cost."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.output import format_bytes
from pock_tvm.errors import PockError

if TYPE_CHECKING:
    from pock_tvm.artifact.description import ArtifactDescription  # imports numpy


def memory_of(description: "ArtifactDescription") -> dict[str, int]:
    """Return the bytes of each class of memory that a session of the artifact takes."""
    regions = description.regions
    by_class = {
        "frozen_weights_bytes": 0,
        "trainable_weights_bytes": 0,
        "statistics_bytes": 0,
        "optimizer_bytes": 0,
        "constants_bytes": 0,
        "accumulators_bytes": 0,
        "counters_bytes": 0,
    }
    for tensor in description.tensors:
        if tensor.role == "weight":
            key = "trainable_weights_bytes" if tensor.trainable else "frozen_weights_bytes"
        elif tensor.region != "arena":
            plural = tensor.role in ("statistic", "constant", "counter", "accumulator")
            key = f"{tensor.role}s_bytes" if plural else f"{tensor.role}_bytes"
        else:
            continue
        by_class[key] += tensor.nbytes
    return {
        **by_class,
        "transient_bytes": regions.arena_bytes,
        "transient_lower_bound_bytes": regions.arena_lower_bound_bytes,
        "workspace_bytes_per_thread": regions.workspace_bytes_per_thread,
        "total_bytes": regions.frozen_bytes + regions.state_bytes + regions.arena_bytes,
    }


def memory_rows(memory: Mapping[str, int]) -> dict[str, str]:
    """Return the same for a table."""
    names = {key: key.replace("_bytes", "").replace("_", " ") for key in memory}
    return {names[key]: format_bytes(value) for key, value in memory.items() if value}


def frontier_rows(
    frontier: Sequence[Mapping[str, Any]], batch: int
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return a table of what fewer bytes cost: its header, and at most eight points.

    They are the ends of the frontier and what shares out the bytes between.

    Args:
        frontier: ``memory_frontier`` of a report.
        batch: samples of a step.
    """
    most, least = (point["arena_bytes"] for point in (frontier[0], frontier[-1]))
    wanted = [most + (least - most) * i // 7 for i in range(8)]
    chosen = [next(p for p in frontier if p["arena_bytes"] <= size) for size in wanted]
    points = [point for i, point in enumerate(chosen) if point not in chosen[:i]]
    columns: dict[str, list[str]] = {
        "weights, state and transients": [format_bytes(p["arena_bytes"]) for p in points],
        "more time, by estimate": [f"{p['recomputed_share']:.1%}" for p in points],
    }
    if any(p["micro_batches"] > 1 for p in points):
        columns["samples at a time"] = [f"{batch // p['micro_batches']} of {batch}" for p in points]
    return tuple(columns), list(zip(*columns.values(), strict=True))


def check_frontier_picture(path: Path) -> None:
    """Refuse what could not be drawn, before minutes of work.

    Raises:
        UsageError: a suffix that is no picture's.
        PockError: matplotlib is missing.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise click.UsageError(f"--frontier {path}: write a name that ends in .png or .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise PockError(
            "--frontier needs matplotlib; install it with: pip install 'pock-tvm[report]'"
        )


def draw_frontier(report: Mapping[str, Any], path: Path) -> None:
    """Draw the frontier of a report."""
    from pock_tvm.report.frontier_picture import Point, draw

    points = [
        Point(p["arena_bytes"], p["recomputed_share"], p["micro_batches"])
        for p in report["memory_frontier"]
    ]
    chosen = Point(report["arena_bytes"], report["recomputed_share"], report["micro_batches"])
    title = f"{report['model']}, {report['update']}, batch {report['batch']}"
    draw(points, chosen, report["batch"], title, path)

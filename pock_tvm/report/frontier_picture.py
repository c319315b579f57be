"""Draw what fewer bytes cost in time: one curve per number of micro-batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

COLORS = ("#3b6ea5", "#d98b2b", "#3b7a57", "#8a4f7d", "#8a93a6")


class Point(NamedTuple):
    """A plan that is possible."""

    total_bytes: int
    """Weights, optimizer state and transients."""
    more_time: float
    """Share of the fastest step's time, by estimate."""
    micro_batches: int


def draw(points: Sequence[Point], chosen: Point, batch: int, title: str, path: Path) -> None:
    """Write the picture; the suffix says how.

    Args:
        points: the frontier, from the fastest to the smallest.
        chosen: the plan of the artifact.
        batch: samples of a step.
        title: of the picture.
        path: ``.png`` or ``.svg``.
    """
    with mpl.rc_context({"svg.hashsalt": "pock", "font.size": 9}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        counts = sorted({p.micro_batches for p in points})
        for index, count in enumerate(counts):
            some = [p for p in points if p.micro_batches == count]
            axes.plot(
                [p.total_bytes / 1e6 for p in some],
                [100 * p.more_time for p in some],
                marker=".",
                drawstyle="steps-post",
                color=COLORS[index % len(COLORS)],
                label=f"{batch // count} of {batch} samples at a time",
            )
        place = (chosen.total_bytes / 1e6, 100 * chosen.more_time)
        axes.plot(*place, marker="o", markersize=9, markerfacecolor="none", color="#23262d")
        axes.annotate(
            f"this artifact, {place[0]:.1f} MB",
            place,
            xytext=(8, 8),
            textcoords="offset points",
        )
        axes.set(
            title=title,
            xlabel="weights, optimizer state and transients, MB",
            ylabel="more time, by estimate, %",
        )
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        if len(counts) > 1:
            axes.legend(frameon=False)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        figure.savefig(path, dpi=150, metadata=metadata)

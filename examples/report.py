"""The demo's table and picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from examples.digits import Samples
    from examples.handwriting import Story

mpl.use("Agg")  # needs no screen
from matplotlib import pyplot as plt

COLOURS = {"head": "#7a8ba3", "bias": "#d98e32", "sparse": "#1a8a5a", "full": "#a23b5c"}
INK, PAPER = "#222831", "#fbfaf7"


def print_table(story: Story) -> None:
    """Print the table and what it says on stdout."""
    console = Console()
    if not console.is_terminal:
        console.width = 100
    budget = story.budget_bytes
    table = Table(title="A new writer: 250 pictures to learn from, 250 to be measured on")
    table.add_column("system")
    table.add_column("learns")
    for heading in ("parameters", "accuracy", "transient KiB", "state KiB", "ms a step"):
        table.add_column(heading, justify="right")
    table.add_column(f"within {budget // 1024} KiB", justify="center")
    table.add_row("", "nothing yet", "0", f"{story.before:.1%}", "", "", "", "")
    table.add_section()
    for run in story.runs:
        table.add_row(
            run.system,
            run.scheme,
            f"{run.parameters:,}",
            f"{run.accuracy:.1%}",
            f"{run.transient_bytes / 1024:,.0f}",
            f"{run.state_bytes / 1024:,.0f}",
            f"{run.step_ms:.2f}",
            "yes" if run.written_bytes <= budget else "no",
            end_section=run.system != "pock",
        )
    console.print(table)
    console.print(
        f"The first writer was read right {story.first_writer:.1%} of the time, the second "
        f"{story.new_hand:.1%} before her bins changed, {story.before:.1%} after.\n"
        "Transient: arena and workspace of pock; of PyTorch the peak that its allocator hands out "
        "in a step (its profiler sees tensors, not the kernels' scratch).\n"
        "State: weights that learn, and both moments of AdamW. Batch 8, one thread, both systems "
        "in turns, the same weights, batches and rates.\n"
        "Their losses differ, over that of the first step, by "
        f"{story.loss_difference(1):.0e} in that step, by up to {story.loss_difference(5):.0e} in "
        f"five and {story.loss_difference():.0e} in all.\n"
        "Times at this size say most about the overhead of a call; benchmarks/ has large models. "
        f"Seed {story.seed}, {story.elapsed_s:.0f} s in all.",
        soft_wrap=True,
        highlight=False,
    )


def draw(story: Story, old: Samples, new: Samples, moved: Samples, path: Path) -> None:
    """Draw pictures of both writers, accuracy against bytes, and the learning curves."""
    style = {
        "font.family": "DejaVu Sans",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#b8bcc4",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": PAPER,
        "figure.facecolor": PAPER,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with plt.rc_context(style):
        figure = plt.figure(figsize=(12, 8), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.9))
        top.set_facecolor(PAPER)
        bottom.set_facecolor(PAPER)
        rows = top.subfigures(2, 1)
        _draw_digits(rows[0], "The first writer: bin = digit", old, old.labels)
        where = "The second writer: bin = 9 − digit"
        _draw_digits(rows[1], where, new, moved.labels)
        left, right = bottom.subplots(1, 2)
        _draw_memory(left, story)
        _draw_curves(right, story)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _draw_digits(figure: object, title: str, samples: Samples, bins: np.ndarray) -> None:
    figure.set_facecolor(PAPER)  # type: ignore[attr-defined]
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")  # type: ignore[attr-defined]
    for digit, axes in enumerate(figure.subplots(1, 10)):  # type: ignore[attr-defined]
        index = int(np.flatnonzero(bins == (digit if bins is samples.labels else 9 - digit))[0])
        axes.imshow(samples.pictures[index, 0], cmap="gray_r")
        axes.set_xlabel(f"→ {bins[index]}", labelpad=2)
        axes.set_xticks([])
        axes.set_yticks([])


def _draw_memory(axes: Axes, story: Story) -> None:
    axes.set_title("Accuracy against memory of a step", loc="left", weight="bold")
    markers = {"pock": "o", "PyTorch": "s"}
    for run in story.runs:
        ours = run.system == "pock"
        axes.scatter(
            run.transient_bytes / 1024,
            run.accuracy,
            s=110,
            marker=markers[run.system],
            color=COLOURS[run.scheme] if ours else "none",
            edgecolor=COLOURS[run.scheme],
            linewidth=1.8,
            zorder=3,
        )
        if ours:
            place = (run.transient_bytes / 1024, run.accuracy)
            axes.annotate(run.scheme, place, (0, 11), textcoords="offset points", ha="center")
    for system, marker in markers.items():
        fill = INK if system == "pock" else "none"
        axes.scatter([], [], marker=marker, color=fill, edgecolor=INK, s=70, label=system)
    axes.axhline(story.before, color=INK, linewidth=1, linestyle=":", label="before")
    axes.set_xscale("log")
    sizes = [run.transient_bytes / 1024 for run in story.runs]
    ticks = [size for size in 256 * 2 ** np.arange(10) if min(sizes) / 2 < size < max(sizes) * 2]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("transient KiB (arena of pock, allocator's peak of PyTorch)")
    _finish(axes)


def _draw_curves(axes: Axes, story: Story) -> None:
    axes.set_title("Learning on the device", loc="left", weight="bold")
    for run in story.runs:
        ours = run.system == "pock"
        axes.plot(
            *np.transpose(run.curve),
            color=COLOURS[run.scheme],
            linewidth=2.2 if ours else 1.2,
            linestyle="-" if ours else (0, (2, 2)),
            label=run.scheme if ours else None,
        )
    axes.plot([], [], color=INK, linewidth=1.2, linestyle=(0, (2, 2)), label="PyTorch")
    axes.set_xlabel("steps of 8 pictures")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set_ylabel("accuracy on the second writer")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    axes.grid(visible=True, color="#e4e2dc", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.06))

"""Draw the arena of a step: calls from left to right, bytes upwards, one bar per tensor."""

import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from pock_tvm.report.lifetimes import Kind, Lifetime, at_peak, live_bytes

COLORS: dict[Kind, str] = {
    "input": "#8a93a6",
    "output": "#3b7a57",
    "residual": "#d98b2b",
    "transient": "#6fa3d8",
}
_SVG = "{http://www.w3.org/2000/svg}"
_PAGE = Template(
    """<!doctype html>
<meta charset="utf-8">
<title>$title</title>
<style>
body { margin: 2rem; font: 16px/1.4 system-ui, sans-serif; color: #23262d; background: #fcfcfa }
svg { width: 100%; height: auto }
g[id^="tensor"]:hover path { stroke: #23262d !important; stroke-width: 2 !important }
</style>
<h1>$title</h1>
<p>Each bar is a tensor: from the call that writes it first to the last that reads it, at the bytes
where it lies. Point at one for its name.</p>
$svg
"""
)


def draw_lifetimes(tensors: Sequence[Lifetime], calls: int, title: str, path: Path) -> None:
    """Write the picture; the suffix says how.

    Args:
        tensors: of one entry point.
        calls: how many kernel calls it has.
        title: of the picture.
        path: ``.png``, ``.svg``, or ``.html``, a page on which tensors can be pointed at.

    Raises:
        ValueError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg", ".html"):
        raise ValueError(f"{path}: write .png, .svg or .html")
    with mpl.rc_context({"svg.hashsalt": "pock", "font.size": 9}):
        figure = _figure(tensors, calls, title)
        if suffix == ".png":
            figure.savefig(path, dpi=150)
            return
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = _with_names(buffer.getvalue(), tensors)
    if suffix == ".html":
        svg = _PAGE.substitute(title=title, svg=svg)
    path.write_text(svg, encoding="utf-8")


def _figure(tensors: Sequence[Lifetime], calls: int, title: str) -> Figure:
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots()
    for index, tensor in enumerate(tensors):
        axes.add_patch(
            Rectangle(
                (tensor.start, tensor.offset / 1e6),
                tensor.end - tensor.start + 1,
                tensor.nbytes / 1e6,
                facecolor=COLORS[tensor.kind],
                edgecolor="white",
                linewidth=0.3,
                gid=f"tensor{index}",
            )
        )
    live = [count / 1e6 for count in live_bytes(tensors, calls)]
    axes.step(range(calls + 1), [*live, live[-1]], where="post", color="#23262d", linewidth=1)
    time, _ = at_peak(tensors, calls)
    axes.annotate(
        f"{live[time]:.1f} MB in use at the peak",
        (time, live[time]),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
    )
    axes.set(title=title, xlabel="kernel call", ylabel="offset in the arena, MB")
    axes.set_xlim(0, calls)
    top = max((t.offset + t.nbytes) / 1e6 for t in tensors)
    axes.set_ylim(0, 1.06 * top)
    axes.spines[["top", "right"]].set_visible(False)
    kinds = dict.fromkeys(t.kind for t in tensors)
    handles: list[Any] = [Patch(color=COLORS[k], label=k) for k in COLORS if k in kinds]
    axes.legend(handles=handles, loc="upper right", frameon=False)
    return figure


def _with_names(svg: bytes, tensors: Sequence[Lifetime]) -> str:
    """Give every bar a title, which browsers show to those who point at it."""
    ET.register_namespace("", _SVG[1:-1])
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    # The file was written by matplotlib a moment ago: no stranger's XML is parsed.
    root = ET.fromstring(svg)
    for group in root.iter(f"{_SVG}g"):
        key = group.get("id", "")
        if key.startswith("tensor"):
            tensor = tensors[int(key.removeprefix("tensor"))]
            note = ET.Element(f"{_SVG}title")
            note.text = (
                f"{tensor.name}: {tensor.dtype}{list(tensor.shape)}, {tensor.nbytes:,} bytes,"
                f" {tensor.kind}, calls {tensor.start} to {tensor.end}"
            )
            group.insert(0, note)
    return ET.tostring(root, encoding="unicode")

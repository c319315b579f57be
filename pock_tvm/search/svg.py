"""Bars, points and curves as SVG, each with what a pointer over it says."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, ROW = 900, 360, 16
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 150, 24, 56
_PLAIN, _STRONG, _GRID, _ERROR, _FRONTIER = "#2a6fb0", "#c05020", "#e4e4e4", "#999", "#b9d3ea"
_LETTER, _LINE = 6.6, 14
"""Width of a letter and height of a line of text."""


class Mark(NamedTuple):
    """A value with a name; points have a place along the horizontal axis, too."""

    x: float
    y: float
    name: str
    error: float


class Axis(NamedTuple):
    """What an axis shows: numbers are divided by ``scale`` to stand in the label's unit."""

    label: str
    scale: float = 1.0


def byte_axis(label: str, values: Sequence[float]) -> Axis:
    """Return an axis of bytes in the unit that suits the largest of them."""
    unit, scale = ("MiB", 2.0**20) if max(values, default=0) >= 2**20 else ("KiB", 2.0**10)
    return Axis(f"{label}, {unit}", scale)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``: 1, 2 or 5 times a power."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def bars(marks: Sequence[Mark]) -> str:
    """Draw a horizontal bar for each mark, with its error."""
    low = min([0.0, *(m.y - m.error for m in marks)])
    high = max([0.0, *(m.y + m.error for m in marks)])
    label, height = 380, ROW * len(marks) + 28

    def at(value: float) -> float:
        return label + (value - low) / ((high - low) or 1.0) * (WIDTH - label - 80)

    rows = []
    for tick in ticks(low, high):
        rows.append(_line(at(tick), at(tick), 2, height - 24, _GRID))
        rows.append(_text(at(tick), height - 8, f"{tick:g}", "middle"))
    for index, mark in enumerate(marks):
        top = index * ROW + 4
        left, right = sorted((at(0.0), at(mark.y)))
        middle = top + ROW / 2 - 1
        rows.append(
            _text(label - 8, middle + 4, mark.name, "end")
            + f"<rect x='{left:.1f}' y='{top}' width='{right - left:.1f}' height='{ROW - 4}' "
            f"fill='{_STRONG if mark.y < 0 else _PLAIN}'><title>{escape(mark.name)}: "
            f"{mark.y:.4f} ± {mark.error:.4f}</title></rect>"
            + _line(at(mark.y - mark.error), at(mark.y + mark.error), middle, middle, "#222")
        )
    return _svg(height, rows)


def scatter(
    marks: Sequence[Mark],
    x: Axis,
    y: Axis,
    *,
    named: bool = False,
    strong: str = "",
    frontier: bool = False,
) -> str:
    """Draw a point for each mark.

    Args:
        marks: the points.
        x: of the horizontal places.
        y: of the vertical ones.
        named: write the names beside the points.
        strong: name of the mark that stands out.
        frontier: join the marks that no other beats at their price or below.
    """
    if not marks:
        return ""
    field = _Field(x, y, [m.x for m in marks], [m.y + s * m.error for m in marks for s in (1, -1)])
    parts = field.frame()
    if frontier:
        parts.append(field.steps([(m.x, m.y) for m in best_at_their_price(marks)], _FRONTIER, 3))
    for mark in marks:
        at, up = field.place(mark.x, mark.y)
        if mark.error:
            top, bottom = (field.place(mark.x, mark.y + s * mark.error)[1] for s in (1, -1))
            parts.append(_line(at, at, top, bottom, _ERROR))
        parts.append(
            f"<circle cx='{at:.1f}' cy='{up:.1f}' r='4' "
            f"fill='{_STRONG if mark.name == strong else _PLAIN}'><title>{escape(mark.name)}: "
            f"{mark.x / x.scale:,.6g}, {mark.y / y.scale:.4f}</title></circle>"
        )
    if named:
        parts += _names([(*field.place(m.x, m.y), m.name) for m in marks])
    return _svg(HEIGHT, parts)


def curves(series: Mapping[str, Sequence[tuple[float, float]]], x: Axis, y: Axis) -> str:
    """Draw a staircase for each series: a value holds until the next."""
    points = [p for line in series.values() for p in line]
    if not points:
        return ""
    field = _Field(x, y, [p[0] for p in points], [p[1] for p in points])
    parts = field.frame()
    ends = []
    for index, (name, line) in enumerate(series.items()):
        if line:
            parts.append(field.steps(line, (_PLAIN, _STRONG, "#3a8a3a", "#8040a0")[index % 4], 2))
            ends.append((*field.place(*line[-1]), name))
    return _svg(HEIGHT, [*parts, *_names(ends)])


def best_at_their_price(marks: Sequence[Mark]) -> list[Mark]:
    """Return the marks that are higher than all those that lie as far left, from the left."""
    found: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (m.x, -m.y)):
        if not found or mark.y > found[-1].y:
            found.append(mark)
    return found


class _Field:
    """The rectangle that points lie in, and its axes."""

    def __init__(self, x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x, self.y = x, y
        self.across, self.up = _range(xs, x), _range(ys, y)

    def place(self, x: float, y: float) -> tuple[float, float]:
        (left, right), (low, high) = self.across, self.up
        across = (x / self.x.scale - left) / (right - left)
        up = (y / self.y.scale - low) / (high - low)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )

    def frame(self) -> list[str]:
        """Return grid lines with their numbers, and the labels of the axes."""
        found = []
        for tick in ticks(*self.across):
            at, _ = self.place(tick * self.x.scale, 0.0)
            found.append(_line(at, at, _TOP, HEIGHT - _BOTTOM, _GRID))
            found.append(_text(at, HEIGHT - _BOTTOM + 16, f"{tick:g}", "middle"))
        for tick in ticks(*self.up):
            _, up = self.place(0.0, tick * self.y.scale)
            found.append(_line(_LEFT, WIDTH - _RIGHT, up, up, _GRID))
            found.append(_text(_LEFT - 8, up + 4, f"{tick:g}", "end"))
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        found.append(_text(middle, HEIGHT - 10, self.x.label, "middle"))
        found.append(_text(4, 14, self.y.label, "start"))
        return found

    def steps(self, points: Sequence[tuple[float, float]], colour: str, width: int) -> str:
        """Return a line that goes right, then up or down."""
        corners: list[tuple[float, float]] = []
        for x, y in points:
            at, up = self.place(x, y)
            corners += [(at, corners[-1][1]), (at, up)] if corners else [(at, up)]
        path = " ".join(f"{at:.1f},{up:.1f}" for at, up in corners)
        return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='{width}'/>"


def _range(values: Sequence[float], axis: Axis) -> tuple[float, float]:
    """Return where an axis begins and ends: a little beyond the values."""
    low, high = min(values) / axis.scale, max(values) / axis.scale
    spare = 0.04 * (high - low) or abs(high) or 1.0
    return low - spare, high + spare


def _names(points: Sequence[tuple[float, float, str]]) -> list[str]:
    """Write names right of their points, each below those whose place it would take."""
    taken: list[tuple[float, float, float]] = []
    found = []
    for at, up, name in sorted(points, key=lambda p: (p[1], p[0])):
        left, right, line = at + 8, at + 8 + _LETTER * len(name), up + 4

        def is_taken(here: float, left: float = left, right: float = right) -> bool:
            return any(
                left < end and begin < right and abs(here - there) < _LINE
                for begin, end, there in taken
            )

        while is_taken(line):
            line += 2
        taken.append((left, right, line))
        found.append(_text(left, line, name, "start"))
    return found


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(words)}</text>"


def _line(left: float, right: float, top: float, bottom: float, colour: str) -> str:
    return (
        f"<line x1='{left:.1f}' x2='{right:.1f}' y1='{top:.1f}' y2='{bottom:.1f}' "
        f"stroke='{colour}'/>"
    )


def _svg(height: int, parts: Sequence[str]) -> str:
    return (
        f"<svg viewBox='0 0 {WIDTH} {height}' xmlns='http://www.w3.org/2000/svg' "
        f"font-size='12' font-family='system-ui,sans-serif'>{''.join(parts)}</svg>"
    )

"""Bars and points as SVG."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, MARGIN = 900, 360, 70
ROW = 16
_COLOURS = ("#2a6fb0", "#c05020", "#3a8a3a", "#8040a0")


class Mark(NamedTuple):
    """A value with a name; points have a place along the horizontal axis, too."""

    x: float
    y: float
    name: str
    error: float


def bars(marks: Sequence[Mark]) -> str:
    """Draw a horizontal bar for each mark, with its error."""
    low = min([0.0, *(m.y - m.error for m in marks)])
    high = max([0.0, *(m.y + m.error for m in marks)])
    label, height = 380, ROW * len(marks) + 20

    def at(value: float) -> float:
        return label + (value - low) / ((high - low) or 1.0) * (WIDTH - label - 80)

    rows = []
    for index, mark in enumerate(marks):
        top = index * ROW + 4
        left, right = sorted((at(0.0), at(mark.y)))
        middle = top + ROW / 2 - 1
        rows.append(
            f"<text x='{label - 8}' y='{middle + 4}' text-anchor='end'>{escape(mark.name)}</text>"
            f"<rect x='{left:.1f}' y='{top}' width='{right - left:.1f}' height='{ROW - 4}' "
            f"fill='{_COLOURS[mark.y < 0]}'><title>{escape(mark.name)}: {mark.y:.4f} ± "
            f"{mark.error:.4f}</title></rect>"
            f"<line x1='{at(mark.y - mark.error):.1f}' x2='{at(mark.y + mark.error):.1f}' "
            f"y1='{middle}' y2='{middle}' stroke='#222'/>"
        )
    return _svg(height, rows)


def scatter(marks: Sequence[Mark], x_label: str, y_label: str, *, named: bool = True) -> str:
    """Draw a point for each mark; a name that several have is a colour."""
    if not marks:
        return ""
    xs, ys = [m.x for m in marks], [m.y for m in marks]
    low, high = min(m.y - m.error for m in marks), max(m.y + m.error for m in marks)
    left, right = min(xs), max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        across = MARGIN + (x - left) / ((right - left) or 1.0) * (WIDTH - 2 * MARGIN - 60)
        up = HEIGHT - 50 - (y - low) / ((high - low) or 1.0) * (HEIGHT - 80)
        return across, up

    names = list(dict.fromkeys(m.name for m in marks))
    colour = {n: _COLOURS[i % len(_COLOURS)] for i, n in enumerate(names)}
    few = len(marks) <= 12 and named
    parts = [
        f"<text x='{WIDTH / 2}' y='{HEIGHT - 8}' text-anchor='middle'>{escape(x_label)}</text>",
        f"<text x='{MARGIN - 55}' y='16'>{escape(y_label)}</text>",
    ]
    for y in (min(ys), max(ys)):
        parts.append(f"<text x='4' y='{place(left, y)[1] + 4:.1f}'>{y:.4g}</text>")
    for x in (left, right):
        across = place(x, low)[0]
        parts.append(
            f"<text x='{across:.1f}' y='{HEIGHT - 28}' text-anchor='middle'>{x:,.5g}</text>"
        )
    for mark in marks:
        x, y = place(mark.x, mark.y)
        if mark.error:
            ends = (place(mark.x, mark.y + sign * mark.error)[1] for sign in (1, -1))
            top, bottom = ends
            parts.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top:.1f}' y2='{bottom:.1f}' stroke='#999'/>"
            )
        parts.append(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour[mark.name]}'>"
            f"<title>{escape(mark.name)}: {mark.x:,.6g}, {mark.y:.4f}</title></circle>"
        )
        if few:
            parts.append(f"<text x='{x + 7:.1f}' y='{y - 5:.1f}'>{escape(mark.name)}</text>")
    if len(names) <= len(_COLOURS) < len(marks):
        for index, name in enumerate(names):
            parts.append(
                f"<text x='{WIDTH - 150}' y='{40 + 18 * index}' fill='{colour[name]}'>"
                f"● {escape(name)}</text>"
            )
    return _svg(HEIGHT, parts)


def _svg(height: int, parts: Sequence[str]) -> str:
    return (
        f"<svg viewBox='0 0 {WIDTH} {height}' xmlns='http://www.w3.org/2000/svg' "
        f"font-size='12' font-family='system-ui,sans-serif'>{''.join(parts)}</svg>"
    )

"""What the verbs print on stdout: either tables, or exactly one JSON object."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

_INDENT = "  "


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object; NaN and infinity, which JSON lacks, become null."""
    click.echo(json.dumps(_finite(document), ensure_ascii=False, allow_nan=False))


def print_rows(title: str, rows: Mapping[str, object]) -> None:
    """Print names and values under a title."""
    click.echo(title)
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        click.echo(f"{_INDENT}{name:<{width}}  {value}")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns of numbers are right-aligned."""
    click.echo(title)
    lines = [[*columns], *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numeric = [all(c[:1].isdigit() for c in column[1:]) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, numeric, strict=True)
        aligned = (c.rjust(width) if right else c.ljust(width) for c, width, right in cells)
        click.echo((_INDENT + "  ".join(aligned)).rstrip())


def format_bytes(count: int) -> str:
    """Write a byte count in the unit that leaves one to four digits before the point."""
    if count < 1024:
        return f"{count} B"
    power = min(3, int(math.log2(count)) // 10)
    return f"{count / 1024**power:,.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


def format_seconds(seconds: float) -> str:
    """Write a duration in µs, ms, s or minutes."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.2f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value

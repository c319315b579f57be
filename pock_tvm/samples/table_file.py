"""Rows of a CSV, TSV or JSONL file, one at a time."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pock_tvm.errors import BatchError

Row = tuple[str, Mapping[str, Any]]
"""Where it stands, for messages, and its values by column."""

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file.

    Raises:
        BatchError: the file cannot be read, or a row is damaged.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".csv", ".tsv"):
                yield from _csv_rows(path, file)
            else:
                yield from _json_rows(path, file)
    except OSError as error:
        raise BatchError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise BatchError(f"{path} is not text in UTF-8; convert it") from None


def _csv_rows(path: Path, lines: Iterator[str]) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = next(reader, None)
        if not names:
            raise BatchError(f"{path} is empty; its first line has to name the columns")
        if len(set(names)) != len(names):
            raise BatchError(f"{path} names a column twice in its first line")
        for values in reader:
            if not values:
                continue
            place = f"{path}, line {reader.line_num}"
            if len(values) != len(names):
                raise BatchError(
                    f"{place} has {len(values)} values for {len(names)} columns; put text that "
                    'holds a comma into "quotes"'
                )
            yield place, dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise BatchError(f"{path}, line {reader.line_num}: {error}") from None


def _json_rows(path: Path, lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BatchError(f"{place} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise BatchError(f"{place} is no JSON object; write one per line")
        yield place, row

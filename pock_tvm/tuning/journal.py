"""What a tuner has measured, a JSON object a line: a killed tuner loses at most its last trial."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pock_tvm.errors import TuningError


class Journal:
    """An append-only file; a context manager."""

    def __init__(self, path: Path, version: str) -> None:
        """Open a file, or make it.

        Args:
            path: the file.
            version: of whatever turns a decision into code; lines of another one are passed over.

        Raises:
            TuningError: it cannot be read or written.
        """
        self.path, self._version = path, version
        self.rows: list[dict[str, Any]] = []
        self._file: IO[str]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes() if path.exists() else b""
            self._file = path.open("a", encoding="utf-8")
            if content and not content.endswith(b"\n"):
                self._file.write("\n")  # a killed tuner left half a line
        except OSError as error:
            raise TuningError(f"cannot keep trials in {path}: {error.strerror}") from None
        for line in content.splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and row.get("version") == version:
                self.rows.append(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep one measurement."""
        self.rows.append(dict(row))
        self._file.write(json.dumps({**row, "version": self._version}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

"""The results of a search in one SQLite file: what is there is not done again."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pock_tvm.errors import PockError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS results (
  stage TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (stage, key)
) STRICT;
"""


class Database:
    """Results by stage and key, each written in a transaction of its own; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open a file, or make it.

        Raises:
            PockError: the file is something else, or cannot be written.
        """
        self.path = path
        try:
            # A killed process leaves at most a journal, which the next one rolls back.
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise PockError(
                f"cannot keep results in {path}: {error}; name another file, or remove it"
            ) from None

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Note what the results are of, or check that they are of the same.

        Raises:
            PockError: the file holds the results of another search.
        """
        for key, value in identity.items():
            text = json.dumps(value, sort_keys=True)
            self._connection.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (key, text))
            (found,) = self._connection.execute(
                "SELECT value FROM about WHERE key = ?", (key,)
            ).fetchone()
            if found != text:
                raise PockError(
                    f"{self.path} holds a search with another {key} ({found[:60]}, not "
                    f"{text[:60]}); name another output, or remove the file to begin anew"
                )

    def is_of(self, version: str) -> bool:
        """Tell whether ``renew`` was last called with this version; true of an empty file."""
        row = self._connection.execute("SELECT value FROM about WHERE key = 'version'").fetchone()
        if row is None:
            return self._connection.execute("SELECT 1 FROM results").fetchone() is None
        return bool(row[0] == version)

    def renew(self, version: str, stages: Iterable[str]) -> None:
        """Forget the results of ``stages``, unless they are of this version; all at once."""
        keep = self.is_of(version)
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for stage in () if keep else stages:
                self._connection.execute("DELETE FROM results WHERE stage = ?", (stage,))
            self._connection.execute(
                "INSERT OR REPLACE INTO about VALUES ('version', ?)", (version,)
            )

    def put(self, stage: str, key: str, value: Mapping[str, Any]) -> None:
        """Keep a result; the first one of a key stays."""
        self._connection.execute(
            "INSERT OR IGNORE INTO results VALUES (?, ?, ?)", (stage, key, json.dumps(value))
        )

    def get(self, stage: str, key: str) -> dict[str, Any] | None:
        """Return a result, None where there is none."""
        row = self._connection.execute(
            "SELECT value FROM results WHERE stage = ? AND key = ?", (stage, key)
        ).fetchone()
        return json.loads(row[0]) if row else None

    def all(self, stage: str) -> dict[str, dict[str, Any]]:
        """Return all results of a stage, by key."""
        rows = self._connection.execute(
            "SELECT key, value FROM results WHERE stage = ? ORDER BY key", (stage,)
        )
        return {key: json.loads(value) for key, value in rows}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "Database":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

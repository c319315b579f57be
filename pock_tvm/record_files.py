"""What a tuner found out about a core, as files: ours, and those of the user, which come first.

``<core>.json`` holds a decision by problem: the sizes, strides and number of cores that it was
measured for. Ours stand in ``schedules/records``; the user's in the folder that ``POCK_RECORDS``
names, or else in ``pock_tvm/records`` of the user's data folder. ``POCK_RECORDS=off`` does without
both.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pock_tvm
from pock_tvm.errors import RecordError

_FORMAT, _SCHEMA = "pock-records", 1
_MOST_BYTES = 16 << 20
_SWITCH = "POCK_RECORDS"


@dataclass(frozen=True)
class Record:
    """One finding."""

    decision: Mapping[str, Any]
    before_us: float
    """Median time of a call by the rules, in turns with the decision."""
    after_us: float


def record_folders() -> tuple[Path, ...]:
    """Return the folders that a compilation looks into; a later one has the last word."""
    if os.environ.get(_SWITCH) == "off":
        return ()
    ours = Path(pock_tvm.__file__).resolve().parent / "schedules" / "records"
    return (ours.resolve(), user_folder())


def records_sha256() -> str:
    """Hash what tuners have found out about any core: a target of the user's may name one."""
    digest = hashlib.sha256()
    for folder in record_folders():
        for path in sorted(folder.glob("*.json")):
            digest.update(f"{path.name}\n".encode())
            with contextlib.suppress(OSError):  # whoever needs it will say so
                digest.update(path.read_bytes())
    return digest.hexdigest()


def user_folder() -> Path:
    """Return where the user's own records stand.

    Raises:
        RecordError: records are off.
    """
    chosen = os.environ.get(_SWITCH)
    if chosen == "off":
        raise RecordError(f"{_SWITCH} is off; name a folder for the records by --records")
    if chosen:
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "pock_tvm" / "records"


def record_file(folder: Path, core: str) -> Path | None:
    """Return the file of a core; None where its name is no name of a file."""
    return folder / f"{core}.json" if re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,63}", core) else None


def records_of(core: str) -> dict[str, tuple[Record, Path]]:
    """Return what is known about a core, by problem, with the file that says so.

    Raises:
        RecordError: a file cannot be read.
    """
    found: dict[str, tuple[Record, Path]] = {}
    for folder in record_folders():
        path = record_file(folder, core)
        if path is not None and path.is_file():
            found.update((k, (v, path)) for k, v in read_records(path, core).items())
    return found


def read_records(path: Path, core: str) -> dict[str, Record]:
    """Read a file; what a decision decides is not looked at.

    Raises:
        RecordError: it is no file of records, or of another core.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RecordError(f"{path} has more than {_MOST_BYTES:,} bytes; remove it")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON ({error}); remove it, and tune again") from None
    try:
        if (document["format"], document["schema"]) != (_FORMAT, _SCHEMA):
            raise RecordError(f"{path} holds no records of schema {_SCHEMA}; tune again")
        if document["core"] != core:
            raise RecordError(
                f"{path} holds the records of {str(document['core'])[:40]!r}, not of {core!r}"
            )
        return {str(k): _record(row) for k, row in document["records"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RecordError(
            f"{path} lacks or misspells a field ({type(error).__name__}: {error}); tune again"
        ) from None


def write_records(path: Path, core: str, records: Mapping[str, Record]) -> None:
    """Write a file beside its place, then rename it there.

    Raises:
        RecordError: it cannot be written.
    """
    rows = {key: asdict(records[key]) for key in sorted(records)}
    document = {"format": _FORMAT, "schema": _SCHEMA, "core": core, "records": rows}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.write("\n")
            Path(fresh).chmod(0o644)
            Path(fresh).replace(path)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror}") from None


def _record(row: Any) -> Record:
    decision, before, after = row["decision"], float(row["before_us"]), float(row["after_us"])
    if not isinstance(decision, dict):
        raise TypeError("a decision is a table of names and values")
    return Record(decision, before, after)

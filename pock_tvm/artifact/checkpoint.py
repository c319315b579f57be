"""Read what a checkpoint says about itself; ``pock_files.c`` writes and loads them."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pock_tvm.errors import ArtifactError

_HASH = b'"sha256":"'
_LONGEST_HEADER = 100_000_000
"""The limit of the safetensors format."""


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """A checkpoint whose hash has been checked."""

    path: Path
    nbytes: int
    model: str
    step: int
    """Optimizer steps since the artifact was compiled."""
    cursor: int
    """Samples that the run has drawn."""
    seed: int
    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor in it, as stored."""


def read_checkpoint(path: str | os.PathLike[str]) -> CheckpointFile:
    """Read and check a checkpoint; which artifact it fits, only that artifact can tell.

    Raises:
        ArtifactError: it is no checkpoint, or it is truncated or damaged.
    """
    where = Path(path)
    try:
        raw = where.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {where}: {error.strerror}") from None
    length = int.from_bytes(raw[:8], "little")
    try:
        header = json.loads(raw[8 : 8 + min(length, _LONGEST_HEADER)])
        metadata = header.pop("__metadata__")
        if metadata["format"] != "pock-checkpoint":
            raise KeyError("format")  # noqa: TRY301 (one answer to all that is wrong)
        step, cursor, seed = (_number(metadata[key]) for key in ("step", "cursor", "seed"))
        rows = {name: _row(row) for name, row in header.items()}
        model, found = str(metadata["model"]), metadata["sha256"]
        at = raw.index(_HASH) + len(_HASH)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ArtifactError(f"{where} is not a checkpoint of pock_tvm") from None
    end = max((end for _, end in rows.values()), default=0)
    if len(raw) != 8 + length + end:
        raise ArtifactError(
            f"{where} has {len(raw)} bytes, not {8 + length + end}: it is truncated"
        )
    digest = hashlib.sha256(raw[:at] + b"0" * 64)
    digest.update(memoryview(raw)[at + 64 :])
    if digest.hexdigest() != found:
        raise ArtifactError(f"{where} is damaged: its SHA-256 does not match")
    shapes = {name: shape for name, (shape, _) in rows.items() if not name.startswith("pad.")}
    return CheckpointFile(
        path=where,
        nbytes=len(raw),
        model=model,
        step=step,
        cursor=cursor,
        seed=seed,
        shapes=shapes,
    )


def _number(text: str) -> int:
    """Read one of the three counters: decimal digits, 64 bits."""
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 64:
        raise ValueError(text)
    return int(text)


def _row(row: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
    """Return a tensor's shape and where its bytes end."""
    start, end = row["data_offsets"]
    numbers = (start, end, *row["shape"])
    if not all(type(number) is int and number >= 0 for number in numbers) or end < start:
        raise ValueError(numbers)
    return tuple(row["shape"]), end

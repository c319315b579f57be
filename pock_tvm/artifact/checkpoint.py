"""Read what a checkpoint says about itself; ``pock_files.c`` writes and loads them."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
        step, cursor, seed = (int(metadata[key]) for key in ("step", "cursor", "seed"))
        end = max((row["data_offsets"][1] for row in header.values()), default=0)
        shapes = {
            name: tuple(row["shape"]) for name, row in header.items() if not name.startswith("pad.")
        }
        model, found = metadata["model"], metadata["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError(f"{where} is not a checkpoint of pock_tvm") from None
    if len(raw) != 8 + length + end:
        raise ArtifactError(
            f"{where} has {len(raw)} bytes, not {8 + length + end}: it is truncated"
        )
    at = raw.index(_HASH) + len(_HASH)
    digest = hashlib.sha256(raw[:at] + b"0" * 64)
    digest.update(memoryview(raw)[at + 64 :])
    if digest.hexdigest() != found:
        raise ArtifactError(f"{where} is damaged: its SHA-256 does not match")
    return CheckpointFile(
        path=where,
        nbytes=len(raw),
        model=model,
        step=step,
        cursor=cursor,
        seed=seed,
        shapes=shapes,
    )

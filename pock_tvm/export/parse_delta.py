"""Read a delta. They travel between strangers: every field and every number is checked."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.errors import ArtifactError
from pock_tvm.export.change import INDEX, Change
from pock_tvm.export.delta import FORMAT, SCHEMA, Delta, content_sha256
from pock_tvm.export.low_rank import A, B, LowRankChange
from pock_tvm.export.tensors import read_with_metadata

_READABLE = ("1", SCHEMA)
"""The first schema had no low-rank factors."""
_KINDS = ("dense", "slices", "elements")


def read_delta(path: str | os.PathLike[str]) -> Delta:
    """Read and check a delta.

    Raises:
        ArtifactError: it is no delta, of another schema, or damaged.
    """
    where = Path(path)
    tensors, about = read_with_metadata(where)
    if about.get("format") != FORMAT:
        raise ArtifactError(f"{where} is not a delta of pock_tvm (pock export --format delta)")
    if about.get("schema") not in _READABLE:
        raise ArtifactError(
            f"{where} has schema {about.get('schema')!r}, this pock_tvm reads {SCHEMA}"
        )
    if about.pop("sha256", "") != content_sha256(about, tensors):
        raise ArtifactError(f"{where} is damaged: its SHA-256 does not match; copy it again")
    try:
        rows = json.loads(about["changes"])
        delta = Delta(
            model=about["model"],
            base_sha256=about["base_sha256"],
            base_tensors=tuple(map(str, json.loads(about["base_tensors"]))),
            aliases=dict(json.loads(about["aliases"])),
            changes=tuple(_change(name, row, tensors) for name, row in rows.items()),
            steps=int(about["steps"]),
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ArtifactError(f"{where} lacks or misspells a field: {error}") from None
    if tensors:
        raise ArtifactError(f"{where} holds tensor {min(tensors)!r}, which no change names")
    for change in delta.changes:
        if change.name not in delta.base_tensors:
            raise ArtifactError(f"{where} changes {change.name!r}, which is not of the model")
        change.check()
    return delta


def _change(
    name: str, row: Mapping[str, Any], tensors: dict[str, np.ndarray]
) -> Change | LowRankChange:
    shape = tuple(row["shape"])
    if any(not _is_count(size) for size in shape):
        raise ValueError(f"the shape of {name!r} is {shape}")
    if row["kind"] == "lora":
        rank, alpha, transposed = row["rank"], row["alpha"], row["transposed"]
        if not _is_count(rank) or not rank:
            raise ValueError(f"the rank of {name!r} is {rank!r}")
        a, b = tensors.pop(name + A), tensors.pop(name + B)
        return LowRankChange(
            name=name,
            shape=shape,
            a=a,
            b=b,
            rank=rank,
            alpha=float(alpha),
            transposed=bool(transposed),
        )
    if row["kind"] not in _KINDS:
        raise ValueError(f"unknown kind of change {row['kind']!r}")
    index = None if row["kind"] == "dense" else tensors.pop(name + INDEX)
    if index is not None and (index.dtype.kind != "i" or index.ndim != 1):
        raise ValueError(f"the index of {name!r} is no list of integers")
    axis = row["axis"] if row["kind"] == "slices" else None
    if row["kind"] == "slices" and not _is_count(axis):
        raise ValueError(f"the axis of {name!r} is {axis!r}")
    return Change(
        name=name,
        kind=row["kind"],
        shape=shape,
        values=tensors.pop(name),
        index=index,
        axis=axis,
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

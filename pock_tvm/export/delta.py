"""A sparse delta: a safetensors file with what training changed, and the hash of what it changed.

Each change is a tensor under the model's own name, with its index under ``<name>#index``; the
metadata says which model they belong to. Deltas travel between strangers: reading one checks it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.artifact.export import write_tensors
from pock_tvm.artifact.fingerprint import tensors_sha256
from pock_tvm.errors import ArtifactError
from pock_tvm.export.change import Change, smallest_change
from pock_tvm.export.tensors import TrainedModel, read_with_metadata

FORMAT = "pock-delta"
SCHEMA = "1"
_INDEX = "#index"
_KINDS = ("dense", "slices", "elements")


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a training run changed."""

    model: str
    base_sha256: str
    """Of the model's tensors before training."""
    base_tensors: tuple[str, ...]
    """Names of the tensors that the hash is over."""
    aliases: Mapping[str, str]
    """Further names of tied tensors."""
    changes: tuple[Change, ...]
    steps: int

    @classmethod
    def of(cls, trained: TrainedModel) -> "Delta":
        """Compare a trained model with what was compiled."""
        found = (
            smallest_change(name, value, trained.tuned[name])
            for name, value in trained.initial.items()
        )
        return cls(
            model=trained.description.model,
            base_sha256=tensors_sha256(trained.initial),
            base_tensors=tuple(trained.initial),
            aliases=dict(trained.description.aliases),
            changes=tuple(change for change in found if change),
            steps=trained.steps,
        )

    @property
    def changed_values(self) -> int:
        """Elements in the delta."""
        return sum(change.values.size for change in self.changes)

    def check_base(self, tensors: Mapping[str, np.ndarray], where: object) -> None:
        """Refuse to be applied to another model.

        Raises:
            ArtifactError: a tensor is missing, or one has other values than the delta was made for.
        """
        missing = [name for name in self.base_tensors if name not in tensors]
        if missing:
            raise ArtifactError(
                f"the delta was made for another model ({self.model}): {where} has no tensor "
                f"{missing[0]!r}{f' and {len(missing) - 1} more' if missing[1:] else ''}"
            )
        for change in self.changes:
            change.apply(tensors[change.name])  # names the tensor, where a shape differs
        found = tensors_sha256({name: tensors[name] for name in self.base_tensors})
        if found != self.base_sha256:
            raise ArtifactError(
                f"the delta was made for other weights than those of {where} (their SHA-256 is "
                f"{found[:12]}…, the delta wants {self.base_sha256[:12]}…); apply it to the "
                "untrained model that was compiled"
            )

    def applied(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors that change, by every name that they have, with their new values."""
        new = {change.name: change.apply(tensors[change.name]) for change in self.changes}
        return new | {a: new[n] for a, n in self.aliases.items() if n in new and a in tensors}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file.

        Raises:
            ArtifactError: it cannot be written; what stood there before is kept.
        """
        tensors: dict[str, np.ndarray] = {}
        for change in self.changes:
            tensors[change.name] = change.values
            if change.index is not None:
                tensors[change.name + _INDEX] = change.index
        about = {
            "format": FORMAT,
            "schema": SCHEMA,
            "model": self.model,
            "steps": str(self.steps),
            "base_sha256": self.base_sha256,
            "base_tensors": json.dumps(self.base_tensors),
            "aliases": json.dumps(dict(self.aliases)),
            "changes": json.dumps(
                {c.name: {"kind": c.kind, "axis": c.axis, "shape": c.shape} for c in self.changes}
            ),
        }
        write_tensors(tensors, {}, {**about, "sha256": _content_sha256(about, tensors)}, path)


def read_delta(path: str | os.PathLike[str]) -> Delta:
    """Read and check a delta.

    Raises:
        ArtifactError: it is no delta, of another schema, or damaged.
    """
    where = Path(path)
    tensors, about = read_with_metadata(where)
    if about.get("format") != FORMAT:
        raise ArtifactError(f"{where} is not a delta of pock_tvm (pock export --format delta)")
    if about.get("schema") != SCHEMA:
        raise ArtifactError(
            f"{where} has schema {about.get('schema')!r}, this pock_tvm reads {SCHEMA}"
        )
    if about.pop("sha256", "") != _content_sha256(about, tensors):
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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{where} lacks or misspells a field: {error}") from None
    if tensors:
        raise ArtifactError(f"{where} holds tensor {min(tensors)!r}, which no change names")
    for change in delta.changes:
        if change.name not in delta.base_tensors:
            raise ArtifactError(f"{where} changes {change.name!r}, which is not of the model")
        change.check()
    return delta


def _change(name: str, row: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> Change:
    if row["kind"] not in _KINDS:
        raise ValueError(f"unknown kind of change {row['kind']!r}")
    index = None if row["kind"] == "dense" else tensors.pop(name + _INDEX)
    if index is not None and (index.dtype.kind != "i" or index.ndim != 1):
        raise ValueError(f"the index of {name!r} is no list of integers")
    shape = tuple(row["shape"])
    if any(not isinstance(size, int) or size < 0 for size in shape):
        raise ValueError(f"the shape of {name!r} is {shape}")
    axis = row["axis"] if row["kind"] == "slices" else None
    if row["kind"] == "slices" and (not isinstance(axis, int) or isinstance(axis, bool)):
        raise ValueError(f"the axis of {name!r} is {axis!r}")
    return Change(
        name=name,
        kind=row["kind"],
        shape=shape,
        values=tensors.pop(name),
        index=index,
        axis=axis,
    )


def _content_sha256(about: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    text = json.dumps(about, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256((text + tensors_sha256(tensors)).encode()).hexdigest()

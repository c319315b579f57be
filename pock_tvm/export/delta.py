"""A sparse delta: a safetensors file with what training changed, and the hash of what it changed.

A change is a tensor under the model's own name, with its index under ``<name>#index``, or two
factors, ``<name>#lora_A`` and ``<name>#lora_B``; the metadata says which model they belong to.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pock_tvm.artifact.export import write_tensors
from pock_tvm.artifact.fingerprint import tensors_sha256
from pock_tvm.errors import ArtifactError
from pock_tvm.export.change import Change, smallest_change
from pock_tvm.export.low_rank import LowRankChange
from pock_tvm.export.tensors import TrainedModel

FORMAT = "pock-delta"
SCHEMA = "2"


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
    changes: tuple[Change | LowRankChange, ...]
    steps: int

    @classmethod
    def of(cls, trained: TrainedModel) -> "Delta":
        """Compare a trained model with what was compiled.

        Raises:
            ArtifactError: something in it is not finite.
        """
        found = [_change_of(trained, name) for name in trained.initial]
        for change in found:
            if change:
                change.check()
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
        """Numbers in the delta, of values and of factors."""
        return sum(change.values_count for change in self.changes)

    @property
    def nbytes(self) -> int:
        """Bytes of values, indices and factors."""
        return sum(change.nbytes for change in self.changes)

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Return how many tensors each kind of change describes, and their bytes."""
        tensors = Counter(change.kind for change in self.changes)
        return {
            kind: {
                "tensors": count,
                "bytes": sum(c.nbytes for c in self.changes if c.kind == kind),
            }
            for kind, count in tensors.items()
        }

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
            change.check_base(tensors[change.name])  # names the tensor, where a shape differs
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
            tensors |= change.tensors()
        about = {
            "format": FORMAT,
            "schema": SCHEMA,
            "model": self.model,
            "steps": str(self.steps),
            "base_sha256": self.base_sha256,
            "base_tensors": json.dumps(self.base_tensors),
            "aliases": json.dumps(dict(self.aliases)),
            "changes": json.dumps({change.name: change.row() for change in self.changes}),
        }
        write_tensors(tensors, {}, {**about, "sha256": content_sha256(about, tensors)}, path)


def content_sha256(about: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """Hash everything that a file says."""
    text = json.dumps(about, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256((text + tensors_sha256(tensors)).encode()).hexdigest()


def _change_of(trained: TrainedModel, name: str) -> Change | LowRankChange | None:
    """Return what became of one tensor, None where its bits are what they were."""
    before, after = trained.initial[name], trained.tuned[name]
    done = trained.description.update.get("tensors", {}).get(name, {})
    if done.get("kind") != "lora":
        return smallest_change(name, before, after)
    a, b = (trained.factors[done[factor]] for factor in ("a", "b"))
    if not b.any():
        return None
    rank, alpha, transposed = (done[key] for key in ("rank", "alpha", "transposed"))
    return LowRankChange(
        name=name, shape=before.shape, a=a, b=b, rank=rank, alpha=alpha, transposed=transposed
    )

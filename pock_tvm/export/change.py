"""What became of one tensor: the smallest of three ways to write down the elements that changed.

dense      every value
slices     the rows along one axis that hold a change, and their numbers
elements   each value that changed, and its place in the flattened tensor

Values are stored, not differences, so that applying a change gives the trained bits. Channels that
a scheme selects, and rows of an embedding that a batch has read, come out as slices by themselves.
Low-rank factors are a kind of their own, see ``low_rank``.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pock_tvm.errors import ArtifactError
from pock_tvm.export.values import check_finite, check_same_tensor

Kind = Literal["dense", "slices", "elements"]

INDEX = "#index"
"""Suffix of the index's name in the file."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """New values of one tensor, in the model's own layout."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    """Of the whole tensor."""
    values: np.ndarray
    index: np.ndarray | None = None
    """Rising numbers of the slices or elements; None for a dense change."""
    axis: int | None = None
    """Along which the slices lie."""

    @property
    def nbytes(self) -> int:
        """Bytes of values and index."""
        return self.values.nbytes + (0 if self.index is None else self.index.nbytes)

    @property
    def values_count(self) -> int:
        """Numbers that the tensor gets."""
        return self.values.size

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what the file holds."""
        found = {self.name: self.values}
        return found if self.index is None else {**found, self.name + INDEX: self.index}

    def row(self) -> dict[str, object]:
        """Return what the metadata says."""
        return {"kind": self.kind, "axis": self.axis, "shape": self.shape}

    def check_base(self, before: np.ndarray) -> None:
        """Refuse a tensor of another shape or dtype."""
        check_same_tensor(self.name, before, self.shape, self.values.dtype)

    def apply(self, before: np.ndarray) -> np.ndarray:
        """Return the tensor after the change.

        Raises:
            ArtifactError: shape or dtype are not those of the change, or a number is out of range.
        """
        self.check_base(before)
        self.check()
        if self.index is None:
            return self.values.copy()
        after = np.array(before, order="C")
        if self.axis is None:
            after.reshape(-1)[self.index] = self.values
        else:
            after[(slice(None),) * self.axis + (self.index,)] = self.values
        return after

    def check(self) -> None:
        """Refuse what does not fit together; a delta may come from anywhere.

        Raises:
            ArtifactError: the first thing that is wrong.
        """
        count = 0 if self.index is None else len(self.index)
        wanted: tuple[int, ...]
        if self.kind == "dense":
            wanted, limit = self.shape, 0
        elif self.kind == "elements":
            wanted, limit = (count,), math.prod(self.shape)
        elif self.axis is not None and 0 <= self.axis < len(self.shape):
            wanted = (*self.shape[: self.axis], count, *self.shape[self.axis + 1 :])
            limit = self.shape[self.axis]
        else:
            raise ArtifactError(f"the delta's change of {self.name!r} has no axis {self.axis}")
        if (self.index is None) != (self.kind == "dense") or self.values.shape != wanted:
            raise ArtifactError(f"the delta's change of {self.name!r} does not fit its shape")
        check_finite(self.name, self.values)
        if self.index is None:
            return
        numbers = self.index.astype(np.int64)
        rising = bool((np.diff(numbers) > 0).all())
        if count and not (rising and numbers[0] >= 0 and numbers[-1] < limit):
            raise ArtifactError(f"the delta's index of {self.name!r} is out of order or of range")


def smallest_change(name: str, before: np.ndarray, after: np.ndarray) -> Change | None:
    """Compare two tensors bit by bit; None where all bits are equal."""
    changed = _bits(before) != _bits(after)
    if not changed.any():
        return None
    found = [Change(name=name, kind="dense", shape=after.shape, values=np.array(after, order="C"))]
    numbers = np.flatnonzero(changed)
    found.append(
        Change(
            name=name,
            kind="elements",
            shape=after.shape,
            values=after.reshape(-1)[numbers],
            index=_narrow(numbers),
        )
    )
    for axis in range(after.ndim):
        others = tuple(a for a in range(after.ndim) if a != axis)
        rows = np.flatnonzero(changed.any(others))
        found.append(
            Change(
                name=name,
                kind="slices",
                shape=after.shape,
                values=np.ascontiguousarray(after.take(rows, axis)),
                index=_narrow(rows),
                axis=axis,
            )
        )
    return min(found, key=lambda change: change.nbytes)  # the plainest of equals


def _bits(value: np.ndarray) -> np.ndarray:
    """Look at values as integers: 0.0 and -0.0 differ, a NaN equals itself."""
    return np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}")


def _narrow(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.int32 if not numbers.size or numbers[-1] < 1 << 31 else np.int64)

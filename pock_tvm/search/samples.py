"""What a search learns from and is measured on: samples with labels, split once, for all runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from pock_tvm.errors import BatchError
from pock_tvm.samples.npz_file import read_npz_arrays

LABELS = "labels"


@runtime_checkable
class LabelledSamples(Protocol):
    """What every loader returns."""

    @property
    def samples(self) -> np.ndarray | Mapping[str, np.ndarray]:
        """One array, or arrays by the names of the model's inputs; a row per sample."""

    @property
    def labels(self) -> np.ndarray:
        """One per sample."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Samples:
    """Samples in memory."""

    samples: np.ndarray | Mapping[str, np.ndarray]
    labels: np.ndarray

    def __post_init__(self) -> None:
        for array in arrays_of(self).values():
            if len(array) != len(self.labels):
                raise BatchError(f"{len(array)} samples with {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Samples":
        """Return some of the samples."""
        if isinstance(self.samples, Mapping):
            some = {name: np.asarray(array)[indices] for name, array in self.samples.items()}
            return Samples(some, self.labels[indices])
        return Samples(self.samples[indices], self.labels[indices])


@dataclass(frozen=True)
class Split:
    """Samples by what they are for; no sample stands in two."""

    train: Samples
    held_out: Samples
    """What contributions are measured on."""
    test: Samples
    """What the proof is measured on: the search has never seen it."""


def arrays_of(samples: LabelledSamples) -> dict[str, np.ndarray]:
    """Return the inputs by name; a single array has the empty name."""
    given = samples.samples
    return dict(given) if isinstance(given, Mapping) else {"": given}


def split(
    samples: LabelledSamples, *, held_out: float = 0.25, test: float = 0.25, seed: int = 0
) -> Split:
    """Split samples at random, every class in its share.

    Args:
        samples: all there are.
        held_out: share that contributions are measured on.
        test: share that the proof is measured on.
        seed: of the split.
    """
    if not (0 < held_out < 1 and 0 < test < 1 and held_out + test < 1):
        raise BatchError(
            f"held out are {held_out} and {test} of the samples; each and both together have to "
            "be above 0 and below 1"
        )
    given = samples.samples
    whole = Samples(given, np.asarray(samples.labels))
    order = np.random.default_rng(seed).permutation(len(whole))
    keys = whole.labels[order] if whole.labels.ndim == 1 else np.zeros(len(whole), int)
    order = order[np.argsort(keys, kind="stable")]  # class by class, at random within each
    # Walk through the classes and hand every sample to the part that has fallen behind most.
    shares = np.array([1 - held_out - test, held_out, test])
    due = np.floor(np.arange(1, len(order) + 1)[:, None] * np.cumsum(shares)[None, :2] + 1e-9)
    phase = np.concatenate([np.zeros((1, 2)), due])
    steps = np.diff(phase, axis=0)
    part = np.where(steps[:, 0] > 0, 0, np.where(steps[:, 1] > 0, 1, 2))
    pieces = [np.sort(order[part == i]) for i in range(3)]
    return Split(*(whole.take(piece) for piece in pieces))


def read_npz(path: Path) -> Samples:
    """Read an ``.npz`` of one array per model input, and ``labels``.

    Raises:
        BatchError: the file cannot be read, or has no labels.
    """
    arrays = read_npz_arrays(path)
    if LABELS not in arrays:
        raise BatchError(f"{path} holds no array {LABELS!r}, only {sorted(arrays)}")
    labels = arrays.pop(LABELS)
    return Samples(arrays, labels)


def check_split(parts: Split, batch: int, classes: int | None) -> None:
    """Refuse data that no run could learn from.

    Args:
        parts: of the data.
        batch: samples of a step.
        classes: outputs of the head, None where labels are no classes.

    Raises:
        BatchError: fewer samples than a batch, one class only, labels that the head lacks.
    """
    if len(parts.train) < batch:
        raise BatchError(
            f"{len(parts.train)} samples to train on are fewer than a batch of {batch}; give more "
            "samples, or a smaller --batch"
        )
    for name, part in (("held out", parts.held_out), ("to test on", parts.test)):
        if not len(part):
            raise BatchError(f"no samples are {name}; give more samples")
    if classes is None:
        return
    labels = parts.train.labels
    found = np.unique(labels[labels >= 0])
    if len(found) < 2:
        raise BatchError(
            f"every label to train on is {found[0] if len(found) else 'missing'}: there is nothing "
            "to tell apart; give samples of two classes at least"
        )
    most = max(
        int(part.labels.max(initial=0)) for part in (parts.train, parts.held_out, parts.test)
    )
    if most >= classes:
        raise BatchError(
            f"labels go up to {most}, but the head has {classes} outputs; give the model a new "
            f"one, --head {most + 1} (`with_new_head` in Python), or number the classes from 0 to "
            f"{classes - 1}"
        )

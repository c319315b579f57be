"""Pictures for the demo: scikit-learn's scans of handwritten digits, by two writers.

The scans (1,797 of 8 × 8 pixels, from the UCI optical recognition set) come from many hands, all of
them alike to a net. The second writer is made from scans that the first never shows: a slant to
the right, a smaller hand, a finer pen, each a little different from picture to picture.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits

SIDE = 24
CLASSES = 10
_PEN = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
"""A stroke of the second writer is this much thinner."""


@dataclass(frozen=True)
class Samples:
    """Pictures (samples, 1, SIDE, SIDE) with mean 0 and deviation 1 or so, and a label for each."""

    pictures: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> "Samples":
        """Return the first ``count`` samples."""
        return Samples(self.pictures[:count], self.labels[:count])

    def relabelled(self, codes: np.ndarray) -> "Samples":
        """Return the same pictures with ``codes[label]`` for a label."""
        return Samples(self.pictures, codes[self.labels])


@dataclass(frozen=True)
class Writer:
    """One writer's pictures, some to learn from and some to be measured on."""

    train: Samples
    test: Samples


def two_writers(seed: int) -> tuple[Writer, Writer]:
    """Split the scans: 1,000 and 297 of the first writer, 250 and 250 of the second."""
    scans = load_digits()
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(scans.target))
    images, labels = scans.images[order] / 16.0, scans.target[order].astype(np.int64)
    pieces = np.split(np.arange(len(order)), [1000, 1297, 1547])
    large = np.stack([_enlarge(image) for image in images])
    for index in np.concatenate(pieces[2:]):
        large[index] = _in_another_hand(large[index], generator)
    pictures = ((large - 0.3) / 0.35).astype(np.float32)[:, None]
    a, b, c, d = (Samples(pictures[piece], labels[piece]) for piece in pieces)
    return Writer(a, b), Writer(c, d)


def _enlarge(image: np.ndarray) -> np.ndarray:
    """Scale a scan up with cubic splines."""
    return np.clip(
        ndimage.zoom(image, SIDE / len(image), order=3, grid_mode=True, mode="grid-constant"), 0, 1
    )


def _in_another_hand(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Slant, shrink and thin a picture."""
    slant = generator.normal(0.45, 0.08)
    height, width = generator.normal(0.85, 0.04), generator.normal(0.8, 0.04)
    # Output pixel -> input pixel, about the centre: the rows first, then the slanted columns.
    matrix = np.array([[1 / height, 0.0], [slant / width, 1 / width]])
    centre = np.full(2, (SIDE - 1) / 2)
    shift = generator.normal(0.0, 1.0, 2)
    warped = ndimage.affine_transform(image, matrix, centre - matrix @ (centre + shift), order=1)
    thin = ndimage.grey_erosion(warped, footprint=_PEN)
    return np.clip(1.3 * thin, 0, 1)

"""What training does to pictures: moved by some pixels and mirrored, each time another way.

What happens to a sample is a function of the seed and of its position in the run, drawn from
Philox4x64-10 like the order of the samples, so that a resumed run goes on exactly and no state is
kept. ``pock_augment.c`` does the same, bit for bit.
"""

from dataclasses import dataclass

import numpy as np

from pock_tvm.named_options import require

_STREAM = 1
"""The second word of the key; that of the order of samples is 0."""
_MOST = 65_535


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Pictures moved by up to ``crop`` pixels each way, and mirrored half of the time.

    Moving by d is padding by ``crop`` pixels and cutting a window of the same size out of that at
    random. The padding repeats the edge, which is right whatever values the pixels have.
    """

    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.crop <= _MOST, f"crop is {self.crop}; it must be 0 to {_MOST} pixels")

    @classmethod
    def parse(cls, text: str) -> "Augmentation":
        """Read ``crop=4,flip``.

        Raises:
            UnknownNameError: it says something else.
        """
        crop, flip = 0, False
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, value = part.partition("=")
            known = part == "flip" or (name == "crop" and value.isascii() and value.isdigit())
            require(known, f"augmentation {part!r} is unknown; write crop=PIXELS, flip or both")
            crop, flip = (crop, True) if part == "flip" else (int(value), flip)
        return cls(crop=crop, flip=flip)

    def drawn(self, seed: int, position: int) -> tuple[int, int, bool]:
        """Return how far the picture at a position of the run is moved down and right, mirrored."""
        key = np.array([seed, _STREAM], np.uint64)
        words = np.random.Philox(key=key, counter=[0, position, 0, 0]).random_raw(3)
        width = 2 * self.crop + 1
        down, right = (int(word % width) - self.crop for word in words[:2])
        return down, right, self.flip and bool(words[2] & 1)

    def apply(
        self, pictures: np.ndarray, axes: tuple[int, int], seed: int, position: int
    ) -> np.ndarray:
        """Return the pictures of a batch, changed.

        Args:
            pictures: one per position, the first axis being the batch.
            axes: of height and width.
            seed: of the run.
            position: of the first picture.
        """
        changed = np.empty_like(pictures)
        for row, picture in enumerate(pictures):
            down, right, mirrored = self.drawn(seed, position + row)
            for axis, by, turned in ((axes[0], down, False), (axes[1], right, mirrored)):
                extent = pictures.shape[axis]
                source = np.clip(np.arange(extent) + by, 0, extent - 1)
                picture = picture.take(source[::-1] if turned else source, axis - 1)
            changed[row] = picture
        return changed

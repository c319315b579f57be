"""The input of a model that is a picture, as it lies in memory."""

import math
from dataclasses import dataclass

from pock_tvm.artifact.description import ITEM_BYTES, ArtifactDescription, TensorSpec
from pock_tvm.errors import BatchError

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Picture:
    """Where height and width are in the stored layout."""

    tensor: TensorSpec
    height_axis: int

    @property
    def axes(self) -> tuple[int, int]:
        """Of height and width, the batch being axis 0."""
        return self.height_axis, self.height_axis + 1

    @property
    def planes(self) -> int:
        """Planes of pixels that a sample has: its channels, where they come first."""
        return math.prod(self.tensor.shape[1 : self.height_axis])

    @property
    def extents(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.tensor.shape[self.height_axis : self.height_axis + 2]
        return height, width

    @property
    def pixel_bytes(self) -> int:
        """Of one pixel of a plane: of all channels, where they come last."""
        inner = math.prod(self.tensor.shape[self.height_axis + 2 :])
        return inner * ITEM_BYTES[self.tensor.dtype]


def picture_of(description: ArtifactDescription) -> Picture | None:
    """Return the only input with two axes of pixels, None where there is none or several."""
    found = [p for p in map(_picture, description.tensors) if p is not None]
    return found[0] if len(found) == 1 else None


def needed_picture(description: ArtifactDescription) -> Picture:
    """Return the picture that augmentation changes.

    Raises:
        BatchError: the model takes none, or several.
    """
    found = picture_of(description)
    if found is None:
        raise BatchError(f"{description.model} takes no single picture: leave augmentation out")
    return found


def _picture(tensor: TensorSpec) -> Picture | None:
    shape = tensor.original_shape
    if tensor.role != "input" or len(shape) != 4:
        return None
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if not (first or last):
        return None
    height = 2 if first else 1
    axes = tensor.axes or (0, 1, 2, 3)
    at = axes.index(height)
    stored_together = axes[0] == 0 and at + 1 < 4 and axes[at + 1] == height + 1
    return Picture(tensor, at) if stored_together else None

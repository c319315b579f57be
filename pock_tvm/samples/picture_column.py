"""Pictures in a column of a table: as Pillow has them, or the bytes of a file."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.image_folder import picture_tensor, pixels_of
from pock_tvm.samples.image_processor import ImageProcessor
from pock_tvm.samples.source import Arrays
from pock_tvm.samples.table_file import Row

_NAMES = ("image", "img", "picture")


@dataclass(frozen=True)
class PictureColumn:
    """The column, and what is made of its pictures."""

    name: str
    tensor: TensorForm
    processor: ImageProcessor

    @classmethod
    def among(
        cls, present: Sequence[str], form: SampleForm, folder: Path = Path()
    ) -> "PictureColumn | None":
        """Return the column of pictures for a model of one picture, None where there is none."""
        try:
            tensor = picture_tensor(form)
        except BatchError:
            return None
        name = next((n for n in _NAMES if n in present), None)
        if name is None or tensor.name in present:
            return None
        return cls(name, tensor, ImageProcessor.read(folder, tensor.shape[0]))

    def arrays(self, chunk: Sequence[Row]) -> Arrays:
        """Return the pixels of some rows.

        Raises:
            BatchError: a value is no picture.
        """
        pixels = [self._pixels(place, row.get(self.name)) for place, row in chunk]
        return {self.tensor.name: np.stack(pixels)}

    def _pixels(self, place: str, value: Any) -> np.ndarray:
        try:
            from PIL import Image
        except ImportError:
            raise BatchError("pictures need Pillow: pip install 'pock-tvm[pictures]'") from None
        if isinstance(value, dict):
            value = value.get("bytes")
        try:
            image = Image.open(io.BytesIO(value)) if isinstance(value, bytes) else value
            if not isinstance(image, Image.Image):
                raise BatchError(f"{place}: {self.name!r} holds no picture")
            return pixels_of(place, image, self.processor, self.tensor.shape)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BatchError(f"{place}: cannot read the picture: {error}") from None

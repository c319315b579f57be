"""Pictures in one folder per class, as inputs and labels of a model that takes one picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.image_processor import ImageProcessor
from pock_tvm.samples.source import LABELS, Arrays, Source

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})


def image_folder_source(folder: Path, form: SampleForm, *, labelled: bool) -> Source:
    """Return the pictures by the input's name and, where asked for, ``labels``.

    Classes are the subfolders in the order of their names, pictures those in them by name, turned
    as their EXIF says. They are processed as a ``preprocessor_config.json`` in the folder says;
    without one, the shorter side is resized to fit and the centre cut out, and the values are
    normalised by ImageNet's mean and deviation, or to 0 … 1 for a single channel.

    Raises:
        BatchError: the model takes no single picture, the classes do not fit its head, or, when
            pieces are read, a picture cannot be.
    """
    tensor = picture_tensor(form)
    processor = ImageProcessor.read(folder, tensor.shape[0])
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if labelled:
        _check_classes(folder, form, len(classes))
    paths: list[Path] = []
    labels: list[int] = []
    for number, place in enumerate(classes):
        found = sorted(p for p in place.iterdir() if p.suffix.lower() in _SUFFIXES)
        paths += found
        labels += [number] * len(found)
        if labelled and not found:
            raise BatchError(f"{place} holds no pictures: add some, or remove the class")
    if not paths:
        raise BatchError(f"{folder} holds no pictures in folders, one folder per class")

    def pieces(most: int) -> Iterator[Arrays]:
        for start in range(0, len(paths), most):
            some = slice(start, start + most)
            pixels = np.stack([_picture(path, processor, tensor.shape) for path in paths[some]])
            piece = {tensor.name: pixels}
            if labelled and form.label is not None:
                piece[LABELS] = np.array(labels[some], np.int64)
            yield piece

    return Source(str(folder), len(paths), pieces, tuple(place.name for place in classes))


def picture_tensor(form: SampleForm) -> TensorForm:
    """Return the only input of a model that takes one picture.

    Raises:
        BatchError: it takes something else.
    """
    tensor = form.inputs[0]
    fits = len(tensor.shape) == 3 and tensor.shape[0] in (1, 3) and tensor.dtype == "float32"
    if len(form.inputs) != 1 or not fits:
        raise BatchError(
            "a folder of pictures needs a model of one float32 input, channels 1 or 3 first"
        )
    return tensor


def _check_classes(folder: Path, form: SampleForm, count: int) -> None:
    label = form.label
    if count < 2:
        raise BatchError(
            f"{folder} holds {count} folder(s); a class is a folder, and two are least"
        )
    if label is not None and label.limit is not None and count > label.limit:
        raise BatchError(
            f"{folder} holds {count} classes; the model's head has {label.limit}: compile it with "
            f"a new head, --head {count}"
        )


def _picture(path: Path, processor: ImageProcessor, shape: tuple[int, ...]) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise BatchError("pictures need Pillow: pip install 'pock-tvm[pictures]'") from None
    try:
        with Image.open(path) as image:
            return pixels_of(str(path), image, processor, shape)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BatchError(f"cannot read the picture {path}: {error}") from None


def pixels_of(
    where: str, image: "Image", processor: ImageProcessor, shape: tuple[int, ...]
) -> np.ndarray:
    """Return a picture's values as the model takes them, turned as its EXIF says.

    Raises:
        BatchError: the processor makes another size of it.
    """
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image).convert("RGB" if shape[0] == 3 else "L")
    try:
        return processor.pixels(upright, shape)
    except BatchError as error:
        raise BatchError(f"{where}: {error}") from None

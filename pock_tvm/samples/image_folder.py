"""Pictures in one folder per class, as inputs and labels of a model that takes one picture."""

from pathlib import Path

import numpy as np

from pock_tvm.artifact.batch import input_tensors, label_tensor
from pock_tvm.artifact.description import ArtifactDescription, TensorSpec
from pock_tvm.errors import BatchError
from pock_tvm.samples.image_processor import ImageProcessor

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})


def read_image_folder(
    folder: Path, description: ArtifactDescription, *, labelled: bool
) -> dict[str, np.ndarray]:
    """Return the pictures by the input's name and, where asked for, ``labels``.

    Classes are the subfolders in the order of their names, pictures those in them by name, turned
    as their EXIF says. They are processed as a ``preprocessor_config.json`` in the folder says;
    without one, the shorter side is resized to fit and the centre cut out, and the values are
    normalised by ImageNet's mean and deviation, or to 0 … 1 for a single channel.

    Raises:
        BatchError: the model takes no single picture, the classes do not fit its head, or a picture
            cannot be read.
    """
    tensor = _picture_tensor(description)
    shape = tensor.original_shape[1:]
    processor = ImageProcessor.read(folder, shape[0])
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if labelled:
        _check_classes(folder, description, len(classes))
    paths, labels = [], []
    for number, place in enumerate(classes):
        found = sorted(p for p in place.iterdir() if p.suffix.lower() in _SUFFIXES)
        paths += found
        labels += [number] * len(found)
        if labelled and not found:
            raise BatchError(f"{place} holds no pictures: add some, or remove the class")
    if not paths:
        raise BatchError(f"{folder} holds no pictures in folders, one folder per class")
    arrays = {tensor.name: np.stack([_picture(path, processor, shape) for path in paths])}
    if labelled and label_tensor(description) is not None:
        arrays["labels"] = np.array(labels, np.int64)
    return arrays


def _picture_tensor(description: ArtifactDescription) -> TensorSpec:
    tensors = input_tensors(description)
    shape = tensors[0].original_shape
    fits = len(shape) == 4 and shape[1] in (1, 3) and tensors[0].dtype == "float32"
    if len(tensors) != 1 or not fits:
        raise BatchError(
            "a folder of pictures needs a model of one float32 input, channels 1 or 3 first"
        )
    return tensors[0]


def _check_classes(folder: Path, description: ArtifactDescription, count: int) -> None:
    label = label_tensor(description)
    if count < 2:
        raise BatchError(
            f"{folder} holds {count} folder(s); a class is a folder, and two are least"
        )
    if label is not None and label.limit is not None and count > label.limit:
        raise BatchError(f"{folder} holds {count} classes; the model's head has {label.limit}")


def _picture(path: Path, processor: ImageProcessor, shape: tuple[int, ...]) -> np.ndarray:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise BatchError("pictures need Pillow: pip install 'pock-tvm[pictures]'") from None
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB" if shape[0] == 3 else "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BatchError(f"cannot read the picture {path}: {error}") from None
    try:
        return processor.pixels(upright, shape)
    except BatchError as error:
        raise BatchError(f"{path}: {error}") from None

"""Pictures in one folder per class, as inputs and labels of a model that takes one picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.artifact.batch import input_tensors, label_tensor
from pock_tvm.artifact.description import ArtifactDescription, TensorSpec
from pock_tvm.errors import BatchError

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})
_SETTINGS = "preprocessor_config.json"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_image_folder(
    folder: Path, description: ArtifactDescription, *, labelled: bool
) -> dict[str, np.ndarray]:
    """Return the pictures by the input's name and, where asked for, ``labels``.

    Classes are the subfolders in the order of their names, pictures those in them by name. The
    shorter side is resized to fit, the centre cut out, and the values normalised by ``image_mean``
    and ``image_std`` of a ``preprocessor_config.json`` in the folder: ImageNet's without one, and
    0 … 1 for a single channel.

    Raises:
        BatchError: the model takes no single picture, the classes do not fit its head, or a picture
            cannot be read.
    """
    tensor = _picture_tensor(description)
    mean, std = _normalisation(folder, tensor.original_shape[1])
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
    pixels = np.stack([_picture(path, tensor.original_shape[1:]) for path in paths])
    arrays = {tensor.name: (pixels - mean) / std}
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


def _normalisation(folder: Path, channels: int) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (_IMAGENET_MEAN, _IMAGENET_STD) if channels == 3 else ((0.0,), (1.0,))
    path = folder / _SETTINGS
    if path.exists():
        try:
            settings: Any = json.loads(path.read_text("utf-8"))
            mean, std = settings.get("image_mean", mean), settings.get("image_std", std)
            parts = np.array([mean, std], np.float32)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BatchError(f"cannot read {path}: {error}") from None
        if parts.shape != (2, channels) or not (parts[1] > 0).all():
            raise BatchError(f"{path}: image_mean and image_std need {channels} values each")
    table = np.array([mean, std], np.float32).reshape(2, channels, 1, 1)
    return table[0], table[1]


def _picture(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise BatchError("pictures need Pillow: pip install 'pock-tvm[pictures]'") from None
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB" if channels == 3 else "L"), (width, height))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BatchError(f"cannot read the picture {path}: {error}") from None
    values = np.asarray(fitted, np.float32) / np.float32(255)
    return values.reshape(height, width, channels).transpose(2, 0, 1)

"""How a model wants its pictures: the ``preprocessor_config.json`` of ``transformers``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pock_tvm.errors import BatchError

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "preprocessor_config.json"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_KNOWN = {
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_convert_rgb",
}
_SAYS_NOTHING = {
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_valid_processor_keys",
    "data_format",
    "input_data_format",
    "return_tensors",
    "device",
    "disable_grouping",
    "default_to_square",
}
"""Keys about whose pictures and whose code, not about pixels: ours are always channels first."""


@dataclass(frozen=True)
class ImageProcessor:
    """The steps, in their order: resize, centre crop, scale, normalise.

    Without ``resize`` and ``crop`` a picture is fitted to the model's input: its shorter side is
    resized and the centre cut out.
    """

    resize: int | tuple[int, int] | None = None
    """Of the shorter side, or (height, width); in pixels."""
    resample: int = 2
    """Pillow's number of the filter; 2 is bilinear."""
    crop: tuple[int, int] | None = None
    """(height, width) about the centre, in pixels."""
    scale: float = 1 / 255
    """Of a pixel's 0 … 255."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def read(cls, folder: Path, channels: int) -> "ImageProcessor":
        """Read the file in ``folder``; ImageNet's mean and deviation without one, in colour.

        Raises:
            BatchError: the file cannot be read, or asks for what is not done here.
        """
        path = folder / FILE
        if not path.exists():
            colour = channels == 3
            return cls(mean=_IMAGENET_MEAN, std=_IMAGENET_STD) if colour else cls()
        try:
            given = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BatchError(f"cannot read {path}: {error}") from None
        if not isinstance(given, dict):
            raise BatchError(f"{path} is no JSON object")
        try:
            return cls._parse(given, channels)
        except KeyError as error:
            raise BatchError(f"{path} lacks {error}") from None
        except (TypeError, ValueError) as error:
            raise BatchError(f"{path}: {error}") from None

    @classmethod
    def _parse(cls, given: Mapping[str, Any], channels: int) -> "ImageProcessor":
        said = {key: value for key, value in given.items() if value not in (None, False)}
        if unknown := sorted(said.keys() - _KNOWN - _SAYS_NOTHING):
            raise ValueError(
                f"{', '.join(unknown)} is not understood; process the pictures beforehand and take "
                "the key out"
            )
        does = {
            "do_resize": "size" in said,
            "do_center_crop": "crop_size" in said,
            "do_rescale": True,
            "do_normalize": "image_mean" in said,
        }
        does |= {step: bool(given[step]) for step in does if step in given}
        resize = _size(given["size"]) if does["do_resize"] else None
        crop = _size(given["crop_size"]) if does["do_center_crop"] else None
        if isinstance(crop, int):
            raise TypeError("crop_size needs a height and a width")
        scale = float(given.get("rescale_factor", 1 / 255)) if does["do_rescale"] else 1.0
        mean: tuple[float, ...] = ()
        std: tuple[float, ...] = ()
        if does["do_normalize"]:
            mean = tuple(float(value) for value in given["image_mean"])
            std = tuple(float(value) for value in given["image_std"])
            if len(mean) != channels or len(std) != channels or not min(std) > 0:
                raise ValueError(
                    f"image_mean and image_std need {channels} values each, the latter above 0"
                )
        resample = given.get("resample", 2)
        if resample not in range(6):
            raise ValueError(f"resample is {resample}; Pillow's filters are 0 to 5")
        return cls(resize, int(resample), crop, scale, mean, std)

    def pixels(self, image: "Image", shape: tuple[int, ...]) -> np.ndarray:
        """Return the values of a picture, float32 [channels, height, width].

        Args:
            image: of as many channels as ``shape`` says.
            shape: of the model's input, without the batch.

        Raises:
            BatchError: the steps end at another size.
        """
        channels, height, width = shape
        image = self._placed(image, height, width)
        if image.size != (width, height):
            raise BatchError(
                f"{FILE} makes pictures of {image.height} x {image.width}, the model takes "
                f"{height} x {width}"
            )
        values = np.asarray(image, np.float32).reshape(height, width, channels).transpose(2, 0, 1)
        values = values * np.float32(self.scale)
        if not self.mean:
            return values
        mean, std = (np.array(one, np.float32).reshape(-1, 1, 1) for one in (self.mean, self.std))
        normalised: np.ndarray = (values - mean) / std
        return normalised

    def _placed(self, image: "Image", height: int, width: int) -> "Image":
        from PIL import Image, ImageOps

        filter_ = Image.Resampling(self.resample)
        if self.resize is None and self.crop is None:
            return ImageOps.fit(image, (width, height), filter_)
        if isinstance(self.resize, int):
            shorter = min(image.size)
            # the longer side is rounded down, as transformers does
            size = [self.resize * side // shorter for side in image.size]
            image = image.resize((size[0], size[1]), filter_)
        elif self.resize is not None:
            image = image.resize((self.resize[1], self.resize[0]), filter_)
        if self.crop is None:
            return image
        down, right = (image.height - self.crop[0]) // 2, (image.width - self.crop[1]) // 2
        if down < 0 or right < 0:
            raise BatchError(
                f"{FILE} cuts {self.crop[0]} x {self.crop[1]} out of a picture of {image.height} x "
                f"{image.width}; give larger pictures"
            )
        return image.crop((right, down, right + self.crop[1], down + self.crop[0]))


def _size(given: Any) -> int | tuple[int, int]:
    """Return the shorter side, or height and width, in pixels."""
    if isinstance(given, Mapping) and given.keys() == {"shortest_edge"}:
        sides = [given["shortest_edge"]]
    elif isinstance(given, Mapping) and given.keys() == {"height", "width"}:
        sides = [given["height"], given["width"]]
    else:
        raise ValueError(
            f"a size of {given} could mean two things; write "
            '{"shortest_edge": 224} or {"height": 224, "width": 224}'
        )
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"a size of {given} needs whole numbers above 0")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])

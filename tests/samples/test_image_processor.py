"""``preprocessor_config.json`` against the image processors of ``transformers`` that wrote it."""

import json

import numpy as np
import pytest
from PIL import Image

from pock_tvm.errors import BatchError
from pock_tvm.samples.image_processor import FILE, ImageProcessor


@pytest.fixture
def picture():
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    return Image.fromarray(noise)


PROCESSORS = {
    "ViTImageProcessorPil": {"size": {"height": 20, "width": 24}},
    "CLIPImageProcessorPil": {
        "size": {"shortest_edge": 24},
        "crop_size": {"height": 20, "width": 22},
    },
    "MobileNetV2ImageProcessorPil": {
        "size": {"shortest_edge": 30},
        "crop_size": {"height": 20, "width": 20},
    },
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_transformers(name, picture, tmp_path):
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, name, None) or getattr(transformers, name.removesuffix("Pil"))
    theirs = kind(**PROCESSORS[name])
    theirs.save_pretrained(tmp_path)
    wanted = theirs(picture, return_tensors="np")["pixel_values"][0]
    got = ImageProcessor.read(tmp_path, 3).pixels(picture, wanted.shape)
    assert got.dtype == np.float32
    # bytes are equal after resizing; scaling and normalising round twice, of values below 3
    np.testing.assert_allclose(got, wanted, rtol=0, atol=4 * np.finfo(np.float32).eps)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"do_pad": True}, "do_pad is not understood"),
        ({"size": 224}, "could mean two things"),
        ({"size": {"shortest_edge": 0}}, "above 0"),
        ({"crop_size": {"shortest_edge": 8}}, "height and a width"),
        ({"image_mean": [0.5], "image_std": [0.5]}, "3 values each"),
        ({"image_mean": [0.5] * 3, "image_std": [0.0] * 3}, "above 0"),
        ({"do_normalize": True}, "lacks 'image_mean'"),
        ({"resample": 9}, "filters are 0 to 5"),
        ([], "no JSON object"),
    ],
)
def test_what_is_not_done_here_is_refused(settings, said, tmp_path):
    (tmp_path / FILE).write_text(json.dumps(settings))
    with pytest.raises(BatchError, match=said):
        ImageProcessor.read(tmp_path, 3)


def test_a_size_that_the_model_does_not_take_is_refused(picture, tmp_path):
    (tmp_path / FILE).write_text('{"size": {"height": 8, "width": 8}, "do_pad": false}')
    processor = ImageProcessor.read(tmp_path, 3)
    with pytest.raises(BatchError, match="pictures of 8 x 8, the model takes 6 x 8"):
        processor.pixels(picture, (3, 6, 8))
    (tmp_path / FILE).write_text('{"crop_size": {"height": 99, "width": 8}}')
    with pytest.raises(BatchError, match="out of a picture of 37 x 53"):
        ImageProcessor.read(tmp_path, 3).pixels(picture, (3, 99, 8))

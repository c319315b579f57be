import numpy as np
import pytest
from PIL import Image

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.image_folder import image_folder_source


def _form(channels=3, classes=2):
    pixels = TensorForm(name="pixels", dtype="float32", shape=(channels, 6, 8))
    label = TensorForm(name="labels", dtype="int64", shape=(), limit=classes)
    return SampleForm(inputs=(pixels,), label=label, batch=4)


def read_image_folder(folder, form, *, labelled):
    return image_folder_source(folder, form, labelled=labelled).whole(form, labelled=labelled)


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("b", (0, 255, 0)), ("a", (255, 0, 51))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (30, 12), colour).save(tmp_path / name / "one.png")
    return tmp_path


def test_classes_by_name_and_channels_first(folder):
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.25]}'
    )
    arrays = read_image_folder(folder, _form(), labelled=True)
    assert arrays["labels"].tolist() == [0, 1]
    assert arrays["pixels"].shape == (2, 3, 6, 8)
    assert arrays["pixels"].dtype == np.float32
    np.testing.assert_allclose(
        arrays["pixels"][:, :, 3, 4], [[1, -1, -1.2], [-1, 1, -2]], rtol=1e-6
    )


def test_the_centre_is_kept(folder):
    image = Image.new("L", (24, 6), 0)
    image.paste(255, (8, 0, 16, 6))
    image.save(folder / "a" / "one.png")
    arrays = read_image_folder(folder, _form(channels=1), labelled=True)
    np.testing.assert_array_equal(arrays["pixels"][0], 1)


def test_what_does_not_fit_is_refused(folder):
    (folder / "c").mkdir()
    with pytest.raises(BatchError, match="3 classes; the model's head has 2"):
        read_image_folder(folder, _form(), labelled=True)
    with pytest.raises(BatchError, match="c holds no pictures"):
        read_image_folder(folder, _form(classes=3), labelled=True)
    (folder / "c" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BatchError, match=r"cannot read the picture .*broken\.png"):
        read_image_folder(folder, _form(classes=3), labelled=True)
    with pytest.raises(BatchError, match="two are least"):
        read_image_folder(folder / "a", _form(), labelled=True)


def test_a_picture_taken_sideways_is_turned(folder):
    image = Image.new("L", (6, 8), 0)
    image.paste(255, (0, 0, 3, 8))
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees clockwise to see it upright
    image.save(folder / "a" / "one.png", exif=exif)
    pixels = read_image_folder(folder, _form(channels=1), labelled=True)["pixels"][0, 0]
    np.testing.assert_array_equal(pixels[:3], 1)
    np.testing.assert_array_equal(pixels[3:], 0)


def test_a_picture_that_is_too_small_is_named(folder):
    (folder / "preprocessor_config.json").write_text('{"crop_size": {"height": 99, "width": 8}}')
    with pytest.raises(BatchError, match=r"one\.png: .* out of a picture of 12 x 30"):
        read_image_folder(folder, _form(), labelled=True)

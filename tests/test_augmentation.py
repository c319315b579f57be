import ctypes
import subprocess
import sys

import numpy as np
import pytest

from pock_tvm import Trainer
from pock_tvm.artifact.description import TensorSpec
from pock_tvm.artifact.link import RUNTIME
from pock_tvm.artifact.picture import Picture, _picture
from pock_tvm.augmentation import Augmentation
from pock_tvm.errors import UnknownNameError


class InC(ctypes.Structure):
    _fields_ = (("crop", ctypes.c_int64), ("flip", ctypes.c_int))


class Geometry(ctypes.Structure):
    _fields_ = (
        ("tensor", ctypes.c_uint32),
        *((n, ctypes.c_uint64) for n in ("planes", "height", "width", "pixel_bytes")),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("augment") / "augment.so"
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "-std=c11"]
    command += ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    command += [str(RUNTIME / name) for name in ("pock_augment.c", "pock_order.c")]
    subprocess.run([*command, "-o", str(path)], check=True)
    loaded = ctypes.CDLL(str(path))
    loaded.pock_augmentation_read.restype = ctypes.c_char_p
    return loaded


def spec(shape, axes=None, dtype="float32"):
    place = {"region": "arena", "offset": 0, "role": "input"}
    return TensorSpec(name="x", dtype=dtype, shape=shape, axes=axes, **place)


LAYOUTS = {
    "channels first": spec((2, 3, 6, 5)),
    "one channel": spec((2, 1, 7, 4)),
    "channels last": spec((2, 6, 5, 3), dtype="uint8"),
    "stored with channels last": spec((2, 6, 5, 3), axes=(0, 2, 3, 1)),
    "one pixel": spec((2, 3, 1, 1)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["crop=2", "flip", "crop=9,flip"])
def test_c_changes_pictures_as_python_does(library, layout, what):
    tensor = LAYOUTS[layout]
    picture = _picture(tensor)
    assert picture is not None
    augmentation, in_c = Augmentation.parse(what), InC()
    assert library.pock_augmentation_read(ctypes.byref(in_c), what.encode()) is None
    assert (in_c.crop, in_c.flip) == (augmentation.crop, augmentation.flip)
    shape = (40, *tensor.shape[1:])
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(tensor.dtype)
    wanted = augmentation.apply(pixels, picture.axes, seed=7, position=2**40)
    assert not np.array_equal(wanted, pixels) or layout == "one pixel"
    found = pixels.copy()
    geometry = Geometry(0, picture.planes, *picture.extents, picture.pixel_bytes)
    for row in range(len(found)):
        at = ctypes.c_void_p(found[row].ctypes.data)
        place = (ctypes.c_uint64(7), ctypes.c_uint64(2**40 + row))
        library.pock_augment(ctypes.byref(in_c), ctypes.byref(geometry), *place, at)
    np.testing.assert_array_equal(found, wanted)


def test_a_picture_is_padded_cut_and_mirrored():
    augmentation = Augmentation(crop=2, flip=True)
    pictures = np.arange(60 * 3 * 4 * 5, dtype=np.float32).reshape(60, 3, 4, 5)
    changed = augmentation.apply(pictures, (2, 3), seed=1, position=100)
    padded = np.pad(pictures, [(0, 0), (0, 0), (2, 2), (2, 2)], mode="edge")
    seen = set()
    for row in range(60):
        down, right, mirrored = augmentation.drawn(1, 100 + row)
        window = padded[row, :, 2 + down : 6 + down, 2 + right : 7 + right]
        np.testing.assert_array_equal(changed[row], window[..., ::-1] if mirrored else window)
        seen |= {("down", down), ("right", right), ("mirrored", mirrored)}
    assert len(seen) == 5 + 5 + 2


def test_each_time_another_way_and_the_same_again():
    augmentation = Augmentation(crop=4)
    drawn = [augmentation.drawn(3, position) for position in range(200)]
    assert drawn == [augmentation.drawn(3, position) for position in range(200)]
    assert drawn != [augmentation.drawn(4, position) for position in range(200)]
    assert len(set(drawn)) > 60  # of 81
    assert not any(mirrored for *_, mirrored in drawn)


@pytest.mark.parametrize(
    "text", ["flop", "crop", "crop=", "crop=-1", "crop=x", "flip=1", "crop=70000"]
)
def test_what_is_misspelt_is_refused_by_both(library, text):
    with pytest.raises(UnknownNameError):
        Augmentation.parse(text)
    assert library.pock_augmentation_read(ctypes.byref(InC()), text.encode())


def test_which_input_is_the_picture():
    assert _picture(spec((2, 3, 6, 5))) == Picture(spec((2, 3, 6, 5)), 2)
    assert _picture(spec((2, 6, 5, 3))).axes == (1, 2)
    assert _picture(spec((2, 6, 5, 7))) is None
    assert _picture(spec((2, 6))) is None
    assert _picture(spec((2, 5, 6, 3), axes=(0, 3, 2, 1))) is None  # width before height


def test_a_resumed_run_augments_as_one_run_does(small_artifact, small_samples, tmp_path):
    options = {"learning_rate": 0.1, "seed": 5, "augment": "crop=2,flip"}
    with Trainer(small_artifact.directory) as trainer:
        plain = trainer.fit(*small_samples, steps=9, learning_rate=0.1, seed=5)
    with Trainer(small_artifact.directory) as trainer:
        whole = trainer.fit(*small_samples, steps=9, **options)
    assert whole != plain
    saved = tmp_path / "c"
    with Trainer(small_artifact.directory) as trainer:
        first = trainer.fit(*small_samples, steps=4, checkpoint=saved, **options)
    with Trainer(small_artifact.directory) as trainer:
        rest = trainer.fit(*small_samples, steps=9, checkpoint=saved, resume=True, **options)
    assert first + rest == whole

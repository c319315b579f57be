import json

import numpy as np
import pytest
from PIL import Image
from text_files import form, write_tokenizer

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.columns import Columns
from pock_tvm.samples.open_source import open_source

datasets = pytest.importorskip("datasets")
ROWS = {"sentence": ["a good film", "very bad", "good"], "label": [1, 0, 1]}


@pytest.fixture
def columns(tmp_path):
    return Columns(tokenizer=write_tokenizer(tmp_path / "tokenizer.json"))


def read(path, wanted, columns=None):
    return open_source(path, wanted, columns).whole(wanted, labelled=True)


def saved(rows, folder):
    rows.save_to_disk(str(folder))
    return folder


def test_text_and_labels(tmp_path, columns):
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    folder = saved(datasets.Dataset.from_dict(ROWS, features=features), tmp_path / "set")
    found = read(folder, form(), columns)
    assert found["input_ids"].tolist()[0] == [2, 8, 4, 6, 3, 0]
    assert found["labels"].tolist() == [1, 0, 1]
    assert open_source(folder, form(), columns).count == 3


def test_a_split_is_chosen(tmp_path, columns):
    both = datasets.DatasetDict(
        train=datasets.Dataset.from_dict(ROWS),
        test=datasets.Dataset.from_dict({k: v[:1] for k, v in ROWS.items()}),
    )
    folder = saved(both, tmp_path / "set")
    chosen = Columns(tokenizer=columns.tokenizer, split="test")
    assert read(folder, form(), chosen)["labels"].tolist() == [1]
    with pytest.raises(BatchError, match="several splits; give --split, one of train, test"):
        read(folder, form(), columns)
    wrong = Columns(tokenizer=columns.tokenizer, split="dev")
    with pytest.raises(BatchError, match="no split 'dev'; give --split, one of train, test"):
        read(folder, form(), wrong)
    with pytest.raises(BatchError, match="has no splits; leave --split out"):
        read(folder / "train", form(), wrong)


def test_pictures_and_lists_of_numbers(tmp_path):
    colours = [(255, 0, 51), (0, 255, 0)]
    rows = {"image": [Image.new("RGB", (9, 7), c) for c in colours], "label": [0, 1]}
    folder = saved(datasets.Dataset.from_dict(rows), tmp_path / "pictures")
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5, 0.5, 0.25]})
    )
    pixels = TensorForm(name="pixels", dtype="float32", shape=(3, 6, 8))
    wanted = SampleForm(inputs=(pixels,), label=form().label, batch=2)
    found = read(folder, wanted)
    np.testing.assert_allclose(found["pixels"][:, :, 3, 4], [[1, -1, -1.2], [-1, 1, -2]], rtol=1e-6)
    rows = {"x": [[1.0, 2.0], [3.0, 4.0]], "label": [0, 1]}
    folder = saved(datasets.Dataset.from_dict(rows), tmp_path / "numbers")
    x = TensorForm(name="x", dtype="float32", shape=(2,))
    found = read(folder, SampleForm(inputs=(x,), label=form().label, batch=2))
    assert found["x"].tolist() == [[1, 2], [3, 4]]


def test_a_damaged_data_set_is_refused_in_one_line(tmp_path, columns):
    folder = saved(datasets.Dataset.from_dict(ROWS), tmp_path / "set")
    arrow = next(folder.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(BatchError, match=r"cannot read the data set .*set: ") as error:
        read(folder, form(), columns)
    assert "\n" not in str(error.value)
    (folder / "state.json").write_text("{}")
    with pytest.raises(BatchError, match=r"cannot read the data set .*set: "):
        read(folder, form(), columns)

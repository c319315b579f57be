import json
from dataclasses import replace

import numpy as np
import pytest
from text_files import LENGTH, form, write_tokenizer

from pock_tvm.artifact.sample_form import TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.columns import Columns
from pock_tvm.samples.open_source import open_source

ROWS = [("a good film", "pos"), ("very, very bad", "neg"), ("good", "pos")]


@pytest.fixture
def columns(tmp_path):
    return Columns(tokenizer=write_tokenizer(tmp_path / "tokenizer.json"))


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "reviews.csv"
    lines = ["text,label", *(f'"{text}",{label}' for text, label in ROWS)]
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path, wanted, columns=None, *, labelled=True):
    return open_source(path, wanted, columns, labelled=labelled).whole(wanted, labelled=labelled)


def test_csv_text_becomes_tokens_masks_and_classes_by_name(csv, columns):
    found = read(csv, form(), columns)
    ids = [[2, 8, 4, 6, 3, 0], [2, 7, 1, 7, 5, 3], [2, 4, 3, 0, 0, 0]]
    assert found["input_ids"].tolist() == ids
    assert found["attention_mask"].tolist() == [[1] * 5 + [0], [1] * 6, [1] * 3 + [0] * 3]
    assert found["labels"].tolist() == [1, 0, 1]  # neg, pos: by alphabet
    assert {name: array.dtype for name, array in found.items()} == {
        "input_ids": np.int64,
        "attention_mask": np.int64,
        "labels": np.int32,
    }


def test_what_is_too_long_is_cut_and_ends_as_it_should(tmp_path, columns):
    (tmp_path / "long.tsv").write_text("text\tlabel\n" + "good " * 9 + "\t0\n")
    found = read(tmp_path / "long.tsv", form("input_ids"), columns)
    assert found["input_ids"].tolist() == [[2, 4, 4, 4, 4, 3]]


def test_jsonl_pairs_types_and_positions_in_the_models_dtype(tmp_path, columns):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"one": "good", "two": "film", "same": 1}) + "\n\n")
    wanted = form("input_ids", "token_type_ids", "position_ids", dtype="int32")
    asked = replace(columns, text=("one", "two"), label="same")
    found = read(path, wanted, asked)
    assert found["input_ids"].tolist() == [[2, 4, 3, 6, 3, 0]]
    assert found["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0]]
    assert found["position_ids"].tolist() == [list(range(LENGTH))]
    assert found["labels"].tolist() == [1]
    assert found["input_ids"].dtype == np.int32


def test_names_given_by_the_user_have_the_last_word(csv, columns):
    found = read(csv, form(classes=3), replace(columns, label_names=("pos", "other", "neg")))
    assert found["labels"].tolist() == [0, 2, 0]
    with pytest.raises(BatchError, match=r"line 3 has the label 'neg'; the names are pos, other"):
        read(csv, form(), replace(columns, label_names=("pos", "other")))


def test_a_model_of_the_next_token_labels_itself(csv, columns):
    next_token = TensorForm(name="labels", dtype="int32", shape=(LENGTH,), limit=9, ignore=-100)
    found = read(csv, replace(form("input_ids"), label=next_token), replace(columns, label="none"))
    assert found["labels"][0].tolist() == [8, 4, 6, 3, -100, -100]
    assert found["labels"][1].tolist() == [7, 1, 7, 5, 3, -100]


def test_measured_values_and_columns_that_are_inputs_already(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1, 2.5], "label": 0.5}\n{"x": [3, 4], "label": "2"}\n')
    x = TensorForm(name="x", dtype="float32", shape=(2,))
    wanted = replace(
        form(), inputs=(x,), label=TensorForm(name="labels", dtype="float32", shape=(1,))
    )
    found = read(path, wanted)
    assert found["x"].tolist() == [[1, 2.5], [3, 4]]
    assert found["labels"].tolist() == [[0.5], [2]]


def test_pieces_are_the_whole(csv, columns):
    source = open_source(csv, form(), columns)
    whole = source.whole(form(), labelled=True)
    assert source.count == 3
    for most in (1, 2, 3, 4):
        pieces = list(source.checked(form(), most, labelled=True))
        assert max(len(piece["labels"]) for piece in pieces) == min(most, 3)
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in pieces]), array)


def test_prediction_needs_no_labels(tmp_path, columns):
    (tmp_path / "text.csv").write_text("text\ngood film\n")
    found = read(tmp_path / "text.csv", form(), columns, labelled=False)
    assert sorted(found) == ["attention_mask", "input_ids"]
    with pytest.raises(BatchError, match=r"no column 'label', only 'text': .*--label-column"):
        read(tmp_path / "text.csv", form(), columns)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("text,text\n", "names a column twice"),
        ("text,label\n", "holds no samples"),
        ("text,label\ngood,film,0\n", "line 2 has 3 values for 2 columns"),
        ('text,label\n"good,0\n', "line 2: unexpected end of data"),
        ("text,label\ngood,\n", "line 2 has no label"),
        ("text,label\ngood,0.5\n", "a class is a whole number"),
        ("text,label\ngood,7\n", "compile with a new head, --head 8"),
        ("text,label\ngood,x\nbad,y\ngood,z\n", "3 classes, .* 2 outputs: .*--head 3"),
        ("text,label\ngood,x\nbad,x\n", "give --label-names in their order$"),
        ("words,label\ngood,0\n", "no column 'text', only 'words', 'label': .*--text-column"),
        (b"text,label\n\xff,0\n", "not text in UTF-8"),
    ],
)
def test_a_bad_csv_is_explained_in_one_line(tmp_path, columns, text, said):
    path = tmp_path / "bad.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BatchError, match=said) as error:
        read(path, form(), columns)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1 is no JSON"),
        ("\n[1]", "line 2 is no JSON object"),
        ('{"text": 3, "label": 0}', "line 1: text has to be text"),
        ('{"text": "good", "label": null}', "line 1 has no label"),
        ('{"text": "good", "label": 0}\n{"label": 0}', "line 2: text has to be text"),
        ("[" * 9999, "line 1 is no JSON"),
    ],
)
def test_bad_json_is_explained_in_one_line(tmp_path, columns, text, said):
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(BatchError, match=said):
        read(tmp_path / "bad.jsonl", form(), columns)


def test_tokenizers_that_do_not_fit(csv, columns, tmp_path):
    with pytest.raises(BatchError, match="--tokenizer with the model"):
        read(csv, form())
    with pytest.raises(BatchError, match="knows 0 to 5: it is another model's tokenizer"):
        read(csv, form(limit=6), columns)
    with pytest.raises(BatchError, match=r"the model takes input_ids .*, pixels"):
        read(csv, form("input_ids", "pixels"), columns)
    with pytest.raises(BatchError, match="there is no such file"):
        read(csv, form(), Columns(tokenizer=tmp_path / "none.json"))
    (tmp_path / "damaged.json").write_text('{"model": {}}')
    with pytest.raises(BatchError, match=r"is not a tokenizer\.json: "):
        read(csv, form(), Columns(tokenizer=tmp_path / "damaged.json"))
    odd = Columns(tokenizer=write_tokenizer(tmp_path / "odd.json", pad="nothing"))
    assert read(csv, form(), odd)["input_ids"][2].tolist() == [2, 4, 3, 0, 0, 0]
    with pytest.raises(BatchError, match="names no padding token, and the model has no attention"):
        read(csv, form("input_ids"), odd)


def test_columns_are_for_tables(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(BatchError, match=r"a\.npz is no table: --tokenizer"):
        open_source(tmp_path / "a.npz", form(), Columns(label="x"))

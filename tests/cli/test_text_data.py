"""Text from a table, through every verb that takes ``--data``."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "samples"))
from text_files import LENGTH, WORDS, write_tokenizer


def build():
    """Classes of a text: the mean of what its words are embedded as, and a layer on it."""
    import torch
    from torch import nn

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(len(WORDS), 4)
            self.classifier = nn.Linear(4, 2)

        def forward(self, input_ids, attention_mask):
            seen = attention_mask[..., None].float()
            return self.classifier((self.words(input_ids) * seen).sum(1) / seen.sum(1))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        ids = torch.ones(1, LENGTH, dtype=torch.int64)
        return Bag(), (ids, ids)


TEXTS = [("a very good film", "pos"), ("bad", "neg"), ("good", "pos"), ("very bad film", "neg")] * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An artifact, the texts as a table, and what their tokens are as an ``.npz``."""
    from pock_tvm import compile
    from pock_tvm.frontend.torch_export import import_module

    folder = tmp_path_factory.mktemp("text")
    compile(import_module(*build(), batch=4, name="bag"), folder / "net", optimizer="adamw")
    lines = ["review,mood", *(f"{text},{mood}" for text, mood in TEXTS)]
    (folder / "texts.csv").write_text("\n".join(lines))
    write_tokenizer(folder / "tokenizer.json")
    numbers = {word: number for number, word in enumerate(WORDS)}
    ids = np.zeros((len(TEXTS), LENGTH), np.int64)
    for row, (text, _) in zip(ids, TEXTS, strict=True):
        words = ["[CLS]", *text.split(), "[SEP]"]
        row[: len(words)] = [numbers[word] for word in words]
    labels = np.array([mood == "pos" for _, mood in TEXTS], np.int64)
    np.savez(
        folder / "ids.npz", input_ids=ids, attention_mask=(ids > 0).astype("int64"), labels=labels
    )
    return folder


@pytest.fixture
def table(folder):
    text = ("--tokenizer", folder / "tokenizer.json", "--text-column", "review")
    return ("--data", folder / "texts.csv", *text, "--label-column", "mood")


def test_a_table_trains_and_measures_as_its_arrays_do(pock, folder, table, tmp_path):
    start = ("train", folder / "net", "--lr", 0.05, "--epochs", 9, "--json")
    by_table = pock(*start, *table, "--checkpoint", tmp_path / "c")
    by_arrays = pock(*start, "--data", folder / "ids.npz")
    assert by_table["losses"] == by_arrays["losses"]
    trained = ("--checkpoint", tmp_path / "c", "--json")
    assert pock("evaluate", folder / "net", *table, *trained)["accuracy"] == 1
    pock("predict", folder / "net", *table, *trained, "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found, np.load(folder / "ids.npz") as arrays:
        np.testing.assert_array_equal(found["predicted"], arrays["labels"])


def test_check_takes_text(pock, folder, table):
    found = pock("check", "test_text_data:build", "--batch", 2, *table, "--json")
    with_arrays = ("--batch", 2, "--data", folder / "ids.npz", "--json")
    assert found["loss"] == pock("check", "test_text_data:build", *with_arrays)["loss"]


def test_what_is_wrong_is_said_before_anything_is_written(refused, folder, table, tmp_path):
    to = ("train", folder / "net", "--lr", 0.1, "--checkpoint", tmp_path / "c")
    assert "--text-column" in refused(*to, *table[:4])
    assert "--label-column" in refused(*to, *table[:-2])
    assert "the names are good, bad" in refused(*to, *table, "--label-names", "good, bad")
    search = ("search", "test_text_data:build", "--batch", 4, "-o", tmp_path / "s.toml")
    assert "--label-column" in refused(*search, *table[:-2])
    assert not list(tmp_path.iterdir())

import numpy as np
import pytest
from text_files import form, write_tokenizer

from pock_tvm import Trainer
from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.columns import Columns
from pock_tvm.samples.python_rows import read_rows, rows_source


def test_pairs_train_as_their_arrays_do(small_artifact, small_samples):
    pixels, labels = small_samples
    with Trainer(small_artifact.directory) as trainer:
        given = read_rows(zip(pixels, labels, strict=True), trainer.description)
        losses = trainer.fit(*given, steps=4, learning_rate=0.1)
    with Trainer(small_artifact.directory) as trainer:
        assert trainer.fit(pixels, labels, steps=4, learning_rate=0.1) == losses


def test_what_has_a_length_and_numbers_is_gone_through_again(tmp_path):
    class Texts:
        def __getitem__(self, number):
            if number >= 3:
                raise IndexError
            return {"text": ["good", "bad", "film"][number], "label": ["pos", "neg", "neg"][number]}

    columns = Columns(tokenizer=write_tokenizer(tmp_path / "tokenizer.json"))
    source = rows_source(Texts(), form(), columns)
    assert (source.count, source.classes) == (3, ("neg", "pos"))
    assert source.whole(form(), labelled=True)["labels"].tolist() == [1, 0, 0]


def test_rows_that_do_not_fit_are_named():
    x = TensorForm(name="x", dtype="float32", shape=(2,))
    wanted = SampleForm(inputs=(x,), label=form().label, batch=2)
    for rows, said in (
        ([], "holds no samples"),
        ([3], "row 0 is a int; give mappings"),
        ([([1, 2], 0), ([1], 0)], r"row 1: 'x' has shape \(1,\); the model takes \(2,\)"),
        ([([1, 2], 0), (["a", "b"], 0)], "row 1: 'x' does not hold float32"),
        ([([1, 2], 0), ([1, 2], None)], "row 1 has no label"),
        ([([1, 2], 0), ([1, np.nan], 0)], r"x\[1, 1\] is nan"),
    ):
        with pytest.raises(BatchError, match=said):
            read_rows(rows, wanted)

"""Importing TFLite: a small convolutional net that TensorFlow wrote."""

from pathlib import Path

import numpy as np
import pytest

import pock_tvm
from pock_tvm.errors import BatchError, PockError
from pock_tvm.frontend import load_model

DATA = Path(__file__).parent / "data"
NET = DATA / "small_net.tflite"


@pytest.fixture(scope="module")
def imported():
    return load_model(str(NET), 2)


def test_weights_are_parameters_under_the_names_of_the_file(imported):
    shapes = {name.split("/")[1]: v.shape for name, v in imported.parameters.items() if v.ndim > 1}
    assert shapes == {
        "stem_1": (8, 3, 3, 3),
        "depthwise_1": (1, 3, 3, 8),
        "pointwise_1": (16, 1, 1, 8),
        "classifier_1": (5, 16),
    }
    assert sum(v.ndim == 1 for v in imported.parameters.values()) == 4


def test_the_input_has_the_name_it_had_in_tensorflow(imported):
    (spec,) = imported.inputs
    assert (spec.name, spec.shape, spec.dtype) == ("pixels", (2, 16, 16, 3), "float32")


def test_it_predicts_what_tensorflow_does_and_learns(imported, tmp_path):
    pock_tvm.compile(imported, tmp_path / "net")
    sample = np.load(DATA / "small_net.npz")
    with pock_tvm.Trainer(tmp_path / "net") as trainer:
        got = trainer.predict(sample["pixels"])
        np.testing.assert_allclose(got, sample["logits"], rtol=1e-5, atol=1e-6)
        labels = np.array([1, 2], "int32")
        losses = [trainer.step(sample["pixels"], labels, 0.05) for _ in range(5)]
        assert losses == sorted(losses, reverse=True)
        for tensor in trainer.description.tensors:
            if tensor.trainable:
                before = imported.parameters[tensor.name]
                assert np.abs(trainer.tensor(tensor.name) - before).max() > 1e-6, tensor.name


def test_another_batch_is_refused():
    with pytest.raises(BatchError, match="small_net was exported for batches of 2, not 4"):
        load_model(str(NET), 4)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 4 + b"TFL3" + b"\xff" * 40])
def test_files_that_are_no_models(content, tmp_path):
    (tmp_path / "net.tflite").write_bytes(content)
    with pytest.raises(PockError, match="is not a TFLite model, or is damaged"):
        load_model(str(tmp_path / "net.tflite"), 2)


def test_every_operator_that_tvm_lacks_is_named(tmp_path):
    """Two operators of the file become others, without a change of length."""
    import tflite

    content = bytearray(NET.read_bytes())
    model = tflite.Model.GetRootAsModel(content, 0)
    lacking = {"RNN": tflite.BuiltinOperator.RNN, "SKIP_GRAM": tflite.BuiltinOperator.SKIP_GRAM}
    for index, code in enumerate(lacking.values()):
        table = model.OperatorCodes(index)._tab
        for field in (4, 10):  # the code as one byte, and as four in newer files
            if place := table.Offset(field):
                content[table.Pos + place] = code
    (tmp_path / "net.tflite").write_bytes(content)
    with pytest.raises(PockError, match=r"cannot import net: .*not supported") as caught:
        load_model(str(tmp_path / "net.tflite"), 2)
    assert all(name in str(caught.value) for name in lacking)
    assert "\n" not in str(caught.value)

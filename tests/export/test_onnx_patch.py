"""An ONNX file with new values: names, graph and everything else stay."""

import importlib
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from pock_tvm.errors import ArtifactError, PockError
from pock_tvm.export import apply_delta, export_file, read_trained

pytestmark = pytest.mark.parametrize("trained", ["small_transformer"], indirect=True)


@pytest.fixture
def base(trained, tmp_path):
    """The untrained model as ONNX, with the module's own names as initializers."""
    module, (example,) = importlib.import_module(trained.name).build()
    path = tmp_path / "base.onnx"
    inputs = (example.expand(len(trained.inputs), -1),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(module.eval(), inputs, path, dynamo=True, optimize=False, verbose=False)
    return path


def values(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def assert_same_but_for_values(before, after):
    graphs = [onnx.load(path) for path in (before, after)]
    for model in graphs:  # weights that stood in a file beside it come into the new one
        for tensor in model.graph.initializer:
            for field in ("raw_data", "data_location"):
                tensor.ClearField(field)
    assert graphs[0] == graphs[1]


def test_the_file_that_was_compiled_gets_new_values(trained, base, tmp_path):
    out = tmp_path / "tuned.onnx"
    export_file(read_trained(trained.folder, trained.checkpoint), out, source=str(base))
    assert_same_but_for_values(base, out)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: trained.inputs.astype("int64")})
    np.testing.assert_allclose(found, trained.predicted, atol=1e-5)


def test_a_delta_on_it_is_the_same(trained, base, tmp_path):
    model = read_trained(trained.folder, trained.checkpoint)
    export_file(model, tmp_path / "whole.onnx", source=str(base))
    export_file(model, tmp_path / "net.delta")
    apply_delta(base, tmp_path / "net.delta", tmp_path / "tuned.onnx")
    whole, tuned = values(tmp_path / "whole.onnx"), values(tmp_path / "tuned.onnx")
    assert whole.keys() == tuned.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(tuned[name], value, name)


def test_another_file_is_refused(trained, base, tmp_path):
    model = onnx.load(base)
    first = next(t for t in model.graph.initializer if t.name == "words.weight")
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) + 1, first.name))
    onnx.save(model, base)
    found = read_trained(trained.folder, trained.checkpoint)
    with pytest.raises(ArtifactError, match="not the model that was compiled: its weights differ"):
        export_file(found, tmp_path / "out.onnx", source=str(base))
    first.name = "other"
    onnx.save(model, base)
    with pytest.raises(ArtifactError, match=r"it has no tensor 'words.weight'"):
        export_file(found, tmp_path / "out.onnx", source=str(base))
    with pytest.raises(ArtifactError, match="it has no tensor"):
        export_file(found, tmp_path / "out.onnx", source="small_net:build")
    assert not (tmp_path / "out.onnx").exists()


def test_what_is_no_model(trained, tmp_path):
    found = read_trained(trained.folder)
    (tmp_path / "bad.onnx").write_bytes(b"no protobuf at all" * 9)
    with pytest.raises(ArtifactError, match=r"bad.onnx is not an ONNX file"):
        export_file(found, tmp_path / "out.onnx", source=str(tmp_path / "bad.onnx"))
    with pytest.raises(PockError, match="pass --model"):
        export_file(found, tmp_path / "out.onnx")
    with pytest.raises(ArtifactError, match="no such file"):
        export_file(found, tmp_path / "out.onnx", source=str(tmp_path / "none.onnx"))

"""The delta: what it holds, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from pock_tvm.errors import ArtifactError, UnknownNameError
from pock_tvm.export import apply_delta, export_file, read_trained
from pock_tvm.export.change import Change, smallest_change
from pock_tvm.export.parse_delta import read_delta
from pock_tvm.export.tensors import read_with_metadata

ONE = ["small_transformer"]


@pytest.fixture
def delta(trained, tmp_path):
    export_file(read_trained(trained.folder, trained.checkpoint), tmp_path / "net.delta")
    return tmp_path / "net.delta"


def changed(before, where, by=1.0):
    after = before.copy()
    after[where] += by
    return after


BEFORE = np.arange(240, dtype="float32").reshape(6, 40)


@pytest.mark.parametrize(
    "where, kind, axis, values",
    [
        (np.s_[:], "dense", None, 240),
        (np.s_[2], "slices", 0, 40),
        (np.s_[:, 3:5], "slices", 1, 12),
        (([0, 3, 5], [1, 7, 30]), "elements", None, 3),
    ],
)
def test_the_smallest_form_is_taken(where, kind, axis, values):
    after = changed(BEFORE, where)
    change = smallest_change("w", BEFORE, after)
    assert (change.kind, change.axis, change.values.size) == (kind, axis, values)
    change.check()
    np.testing.assert_array_equal(change.apply(BEFORE), after)


def test_bits_are_compared():
    zeros = np.zeros(4, "float32")
    assert smallest_change("w", zeros, zeros.copy()) is None
    negative = smallest_change("w", zeros, -zeros)
    assert np.signbit(negative.apply(zeros)).all()
    nan = np.full(4, np.nan)
    assert smallest_change("w", nan, nan.copy()) is None


def test_scalars_and_empty_tensors():
    assert smallest_change("n", np.array(1), np.array(2)).apply(np.array(1)) == 2
    assert smallest_change("e", np.zeros((0, 3)), np.zeros((0, 3))) is None


@pytest.mark.parametrize("index", [[-1], [240], [3, 3], [5, 2]])
def test_a_wild_index_is_refused(index):
    values = np.ones(len(index), "float32")
    change = Change(
        name="w", kind="elements", shape=(6, 40), values=values, index=np.array(index, "int32")
    )
    with pytest.raises(ArtifactError, match="out of order or of range"):
        change.apply(BEFORE)


def test_only_what_learned_is_in_it(trained, delta):
    found = read_delta(delta)
    state = trained.module().state_dict()
    learning = {t.name for t in read_trained(trained.folder).description.tensors if t.trainable}
    moving = {name for name in state if "running" in name}
    changed = {change.name for change in found.changes}
    # Softmax does not see a shift of all keys: the gradient of that bias is 0 but for rounding.
    assert learning | moving >= changed >= (learning | moving) - {"block.key.bias"}
    assert found.steps == 3
    if trained.name == "tied_net":  # ten tokens were read, and the head's gradient is dense
        assert found.aliases == {"head.weight": "words.weight"}


@pytest.mark.parametrize("trained", ONE, indirect=True)
def test_it_is_small(trained, delta, tmp_path):
    export_file(read_trained(trained.folder, trained.checkpoint), tmp_path / "w.safetensors")
    weights, biases = load_file(tmp_path / "w.safetensors"), load_file(delta)
    assert sum(v.nbytes for v in biases.values()) < 0.1 * sum(v.nbytes for v in weights.values())


@pytest.mark.parametrize("trained", ONE, indirect=True)
def test_other_weights_are_refused(trained, delta, tmp_path):
    base = trained.state_dict(tmp_path)
    state = torch.load(base, weights_only=True)
    state["block.up.weight"][0, 0] += 1
    torch.save(state, base)
    with pytest.raises(ArtifactError, match="made for other weights than those of"):
        apply_delta(base, delta, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("trained", ONE, indirect=True)
def test_another_model_is_refused(trained, delta, small_artifact, tmp_path):
    with pytest.raises(ArtifactError, match=r"made for another model .* has no tensor .* more"):
        apply_delta(small_artifact.directory, delta, tmp_path / "out")
    state = {"places": torch.zeros(3)}
    torch.save(trained.module().state_dict() | state, tmp_path / "b.pt")
    with pytest.raises(ArtifactError, match=r"'places' is float32\[3\]|other weights"):
        apply_delta(tmp_path / "b.pt", delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("trained", ONE, indirect=True)
def test_an_artifact_in_which_the_tensors_do_not_learn(trained, delta, tmp_path):
    import small_transformer

    import pock_tvm
    from pock_tvm.frontend import load_model

    model = load_model("small_transformer:build", small_transformer.BATCH)
    pock_tvm.compile(model, tmp_path / "head", update="head")
    with pytest.raises(UnknownNameError, match="does not learn in"):
        apply_delta(tmp_path / "head", delta, tmp_path / "out")


def rewritten(path, change):
    """Write a delta again with edited tensors and metadata; its own hash is not made anew."""
    tensors, about = read_with_metadata(path)
    change(tensors, about)
    save_file(tensors, path, about)


@pytest.mark.parametrize("trained", ONE, indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, about: tensors.pop("classifier.bias"),
        lambda tensors, about: tensors["classifier.bias"].__setitem__(0, 7),
        lambda tensors, about: about.update(steps="4"),
        lambda tensors, about: about.update(base_sha256="0" * 64),
        lambda tensors, about: about.pop("sha256"),
    ],
)
def test_an_edited_delta_is_refused(trained, delta, change):
    rewritten(delta, change)
    with pytest.raises(ArtifactError, match="damaged: its SHA-256 does not match"):
        read_delta(delta)


@pytest.mark.parametrize("trained", ONE, indirect=True)
def test_a_forged_delta_is_refused(trained, delta, monkeypatch, tmp_path):
    """One whose hash was made anew: every field is still checked."""
    monkeypatch.setattr("pock_tvm.export.parse_delta.content_sha256", lambda about, tensors: "")
    tensors, about = read_with_metadata(delta)

    def refuse(match, edited_tensors=tensors, **edited):
        save_file(edited_tensors, delta, {**about, **edited, "sha256": ""})
        with pytest.raises(ArtifactError, match=match):
            read_delta(delta)

    rows = json.loads(about["changes"])
    refuse("is not of the model", base_tensors='["x"]')
    refuse("which no change names", tensors | {"stray": BEFORE})
    refuse("lacks or misspells", changes="[]")
    refuse("lacks or misspells", changes=json.dumps({**rows, "gone": rows["classifier.bias"]}))
    bias = rows["classifier.bias"]
    for wrong in ({"kind": "odd"}, {"shape": [-3]}, {"kind": "slices", "axis": 0}):
        refuse(
            "lacks or misspells|does not fit",
            changes=json.dumps({**rows, "classifier.bias": {**bias, **wrong}}),
        )
    refuse("does not fit", changes=json.dumps({**rows, "classifier.bias": {**bias, "shape": [4]}}))
    refuse("has schema '3'", schema="3")
    for wild in (np.nan, np.inf, -np.inf):
        values = np.full_like(tensors["classifier.bias"], wild)
        refuse("NaN or infinite", tensors | {"classifier.bias": values})
    huge = {**bias, "shape": [1 << 33, 1 << 33], "kind": "elements"}  # overflows in 64 bits
    rows = json.dumps({**rows, "classifier.bias": huge})
    index = np.array([1 << 40] * len(tensors["classifier.bias"]), "int64") + np.arange(3)
    save_file(
        tensors | {"classifier.bias#index": index}, delta, {**about, "changes": rows, "sha256": ""}
    )
    base = trained.state_dict(tmp_path)
    with pytest.raises(ArtifactError, match=r"the delta changes float32\[8589934592, 8589934592\]"):
        apply_delta(base, delta, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("trained", ONE, indirect=True)
@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_delta_is_refused(trained, delta, keep):
    delta.write_bytes(delta.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="is not a safetensors file"):
        read_delta(delta)


def test_what_is_no_delta(tmp_path):
    save_file({"w": BEFORE}, tmp_path / "w")
    with pytest.raises(ArtifactError, match="is not a delta of pock_tvm"):
        read_delta(tmp_path / "w")
    with pytest.raises(ArtifactError, match="no such file"):
        read_delta(tmp_path / "none")

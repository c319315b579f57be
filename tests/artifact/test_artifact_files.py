import json
from dataclasses import replace
from pathlib import Path

import fake
import numpy as np
import pytest
from safetensors.numpy import load_file, safe_open

from pock_tvm import Trainer
from pock_tvm.artifact import load_artifact, machine
from pock_tvm.artifact.layout import layout_problem
from pock_tvm.errors import ArtifactError, BuildError


def test_what_is_written_is_read_back(artifact):
    again = load_artifact(artifact.directory)
    assert again == artifact
    assert replace(again.description, plan=again.plan()) == fake.description()
    assert {path.name for path in artifact.directory.iterdir()} == {
        *("manifest.json", "plan.json", "weights.safetensors", "step.o"),
        *("libpock_model.so", "pock_train", "runtime"),
    }
    assert artifact.directory.stat().st_mode & 0o777 == 0o755


def test_weights_are_an_ordinary_safetensors_file_and_each_region_a_slice_of_it(artifact):
    raw, values = artifact.weights.read_bytes(), fake.values()
    start = 8 + int.from_bytes(raw[:8], "little")
    assert start % 4096 == 0
    assert len(raw) == start + 64 + 128
    stored = load_file(artifact.weights)
    for name, value in values.items():
        np.testing.assert_array_equal(stored[name], value)
    for name in ("fc.weight", "fc.bias"):
        at = start + 64 + artifact.description.tensor(name).offset
        assert raw[at : at + values[name].nbytes] == values[name].tobytes()
    with safe_open(artifact.weights, "np") as file:
        assert file.metadata()["format"] == "pock-weights"


def test_the_same_input_gives_the_same_files(artifact, tmp_path):
    again = fake.write(tmp_path / "again", executable=True)
    for name in artifact.files:
        assert fake.sha256(again.directory / name) == fake.sha256(artifact.directory / name), name


FILES = ("manifest.json", "plan.json", "weights.safetensors", "step.o", "libpock_model.so")


@pytest.mark.parametrize("name", [*FILES, "pock_train", "runtime/pock_files.c"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_every_damaged_file_is_refused_by_name(artifact_copy, name, damage):
    path = artifact_copy / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(raw if damage == "flip" else raw[:-1])
    for reader in (load_artifact, Trainer):
        with pytest.raises(ArtifactError, match=name) as raised:
            reader(artifact_copy)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m["regions"].update(arena_bytes=1 << 20), "was changed after it was written"),
        (lambda m: m["tensors"][0].update(offset=64), "was changed after it was written"),
        (lambda m: m["files"].pop("step.o"), "was changed after it was written"),
        (lambda m: m.update(schema=2), "has schema 2, this pock_tvm reads 1"),
        (lambda m: m.update(format="zip"), "is not the manifest of a pock artifact"),
    ],
)
def test_an_edited_manifest_is_refused(artifact_copy, edit, message):
    path = artifact_copy / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=message):
        load_artifact(artifact_copy)


def test_another_spacing_of_the_manifest_is_no_edit(artifact_copy):
    path = artifact_copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert load_artifact(artifact_copy).description.batch == fake.BATCH


def test_the_library_of_another_artifact_is_refused(artifact_copy, tmp_path):
    """Even with a manifest that was made to agree: the library carries the id of its own."""
    from pock_tvm.artifact import manifest as manifests
    from pock_tvm.artifact.load import file_sha256

    made = replace(fake.description(), model="another")
    library = fake.write(tmp_path / "other", made=made).directory / "libpock_model.so"
    (artifact_copy / library.name).write_bytes(library.read_bytes())
    path = artifact_copy / "manifest.json"
    manifest = json.loads(path.read_text())
    row = {"bytes": library.stat().st_size, "sha256": file_sha256(library)}
    manifest["files"][library.name] = row
    del manifest["manifest_sha256"]
    manifest["manifest_sha256"] = manifests.canonical_sha256(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="was linked for another artifact"):
        Trainer(artifact_copy)


@pytest.mark.parametrize("folder", ["missing", "."])
def test_a_folder_without_manifest_is_no_artifact(tmp_path, folder):
    with pytest.raises(ArtifactError, match=r"is not an artifact: it has no manifest\.json"):
        load_artifact(tmp_path / folder)


def test_an_artifact_for_another_machine_loads_but_does_not_run(tmp_path):
    arm = fake.write(tmp_path / "arm", fake.PI)
    assert load_artifact(arm.directory).description.target == "raspberry-pi-4"
    with pytest.raises(ArtifactError, match=r"'raspberry-pi-4' .*it is for aarch64, this machine"):
        Trainer(arm.directory)


def test_a_processor_without_the_features_is_named(monkeypatch):
    options = {"mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v4"}
    features = machine.required_features("x86-64-v4", options)
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "_present", lambda: frozenset(features) - {"avx512bw"})
    assert machine.why_not_here(options, list(features)) == "this processor lacks avx512bw"
    monkeypatch.setattr(machine, "_present", lambda: frozenset(features))
    assert machine.why_not_here(options, list(features)) is None


def changed(name, /, **fields):
    return {"tensors": tuple(replace(t, **fields) if t.name == name else t for t in fake.TENSORS)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed("scale", offset=32), "lies at 32, not a multiple of 64"),
        (changed("scale", offset=-64), "lies at -64"),
        (changed("scale", offset=64), "ends outside the frozen region"),
        (changed("logits", offset=576), "ends outside the arena region"),
        (changed("fc.bias", offset=0), "'fc.bias' and 'fc.weight' overlap in the state region"),
        (changed("fc.weight", axes=(0, 0)), r"axes \(0, 0\) that do not permute"),
        (changed("fc.weight", panel=1), "panels of 1 columns"),
        (changed("scale", panel=6), "panels of 6 columns"),
        (changed("scale", shape=(1, 2, 3), panel=2), "panels of 2 columns"),
        (changed("scale", shape=(1, 2, 3), panel=3, axes=(0, 2)), r"axes \(0, 2\) that do not"),
        (changed("fc.bias", dtype="float31"), "unknown dtype 'float31'"),
        (changed("fc.bias", name="pad.0"), "name that is reserved"),
        (changed("fc.bias", name="fc.weight"), "'fc.weight' is listed twice"),
        (changed("x", shape=(5, 4)), "but the batch is 4"),
        (changed("loss", dtype="float64"), "'loss' is not one float32"),
        (changed("x", limit=7), "only int32 and int64 are checked"),
        (changed("loss", name="los"), "uses tensor 'loss', which is not listed"),
        ({"entries": ()}, "there is no entry point"),
        ({"regions": replace(fake.description().regions, state_bytes=250)}, "not a multiple"),
    ],
)
def test_a_broken_layout_is_refused_by_writer_and_reader(artifact_copy, tmp_path, changes, message):
    made = replace(fake.description(), **changes)
    problem = layout_problem(made)
    assert problem is not None
    with pytest.raises(ValueError, match=message):
        fake.write(tmp_path / "new", made=made)
    assert {path.name for path in tmp_path.iterdir()} == {"copy"}

    from pock_tvm.artifact import manifest as manifests

    path = artifact_copy / "manifest.json"
    old = json.loads(path.read_text())
    body = manifests.describe(made, ())
    path.write_text(json.dumps(manifests.finish(body, old["artifact_id"], old["files"])))
    with pytest.raises(ArtifactError, match=message):
        load_artifact(artifact_copy)


def test_a_failed_link_leaves_nothing(tmp_path):
    entries = (replace(fake.description().entries[0], symbol="pock_entry_missing"),)
    with pytest.raises(BuildError, match="undefined symbol: pock_entry_missing") as raised:
        fake.write(tmp_path / "a", made=replace(fake.description(), entries=entries))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_or_wrong_value_is_a_bug_of_the_compiler(tmp_path, monkeypatch):
    good = fake.values()
    for wrong, message in (
        ({"scale": good["scale"].astype(np.float64)}, "'scale' is float64"),
        ({"scale": good["scale"][:5]}, r"'scale' is float32\(5,\), planned as float32\(6,\)"),
        ({"fc.bias.momentum": good["fc.bias"]}, "without a place in the weights file"),
    ):
        monkeypatch.setattr(fake, "values", lambda wrong=wrong: {**good, **wrong})
        with pytest.raises(ValueError, match=message):
            fake.write(tmp_path / "a")
    monkeypatch.setattr(fake, "values", lambda: {"scale": good["scale"]})
    with pytest.raises(ValueError, match=r"no initial value for 'fc\.weight'"):
        fake.write(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_an_artifact_is_replaced_but_nothing_else_is(tmp_path):
    folder = tmp_path / "a"
    first = fake.write(folder)
    second = fake.write(folder, made=replace(fake.description(), model="second"))
    assert second.artifact_id != first.artifact_id
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with Trainer(folder) as trainer:  # the library of the first may still be loaded
        assert trainer.description.model == "second"

    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(ArtifactError, match="exists and is not an artifact"):
        fake.write(precious)
    with pytest.raises(ArtifactError, match="exists and is not a folder"):
        fake.write(precious / "thesis.txt")
    with pytest.raises(ArtifactError, match=r"the folder .* does not exist"):
        fake.write(tmp_path / "no" / "where")
    assert (precious / "thesis.txt").read_text() == "irreplaceable"


def test_the_runtime_in_the_artifact_is_complete(artifact):
    """Another tool chain needs nothing but the artifact's folder."""
    included = {
        line.split('"')[1]
        for path in (artifact.directory / "runtime").iterdir()
        for line in path.read_text().splitlines()
        if line.startswith('#include "')
    }
    assert all((artifact.directory / "runtime" / name).is_file() for name in included)
    assert Path(artifact.directory / "runtime" / "pock_artifact.c").is_file()

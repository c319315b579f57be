"""What is wrong in a manifest or a checkpoint's header is refused in a line, whatever it is."""

import copy
import hashlib
import json
import random

import pytest

from pock_tvm import Trainer
from pock_tvm.artifact import load_artifact, manifest
from pock_tvm.artifact.checkpoint import read_checkpoint
from pock_tvm.artifact.layout import region_bytes
from pock_tvm.errors import ArtifactError

ODD = (
    *(None, True, False, 0, -1, 1, 3, 64, 1 << 31, 1 << 32, 1 << 63, 1 << 64, 10**30),
    *(0.5, 1e308, float("nan"), "", "x", "F32", "arena", "state", "../../etc/passwd", "\0", "\n"),
    *([], [1], [1 << 32] * 3, [1] * 40, ["x"], [[]], {}, {"x": 1}),
)


def places(document, path=()):
    """Yield the path of every value in a JSON document."""
    if path:
        yield path
    children = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


def changed(document, chance, all_places):
    """Return a copy with a value or two replaced, taken away, or swapped with another."""
    made = json.loads(document)
    for _ in range(chance.choice((1, 1, 2))):
        *above, last = chance.choice(all_places)
        at = made
        try:
            for key in above:
                at = at[key]
            kind = chance.random()
            last = str(last) if isinstance(at, dict) else last  # JSON has no other keys
            if kind < 0.7:
                at[last] = copy.deepcopy(chance.choice(ODD))
            elif kind < 0.85:
                del at[last]
            elif isinstance(at, list):
                at.append(at[last])
            else:
                at[last] = copy.deepcopy(chance.choice(list(at.values())))
        except (LookupError, TypeError, AttributeError):
            continue  # the first change has taken the place of the second away
    return made


def manifest_text(document):
    body = {key: value for key, value in document.items() if key != "manifest_sha256"}
    return json.dumps({**body, "manifest_sha256": manifest.canonical_sha256(body)})


def read_manifest(text):
    found = manifest.parse(text, "manifest.json")
    description = manifest.restore(found, "manifest.json")
    manifest.file_table(found, "manifest.json")
    for tensor in description.tensors:
        assert 0 <= tensor.offset <= tensor.offset + tensor.nbytes
        assert tensor.offset + tensor.nbytes <= region_bytes(description, tensor.region)
        assert sorted(tensor.original_shape) == sorted(tensor.shape)
    return description


def hunt(document, count, seed, write, read):
    """Change, read, and count what was taken; anything but one line of ArtifactError escapes."""
    chance, all_places, taken = random.Random(seed), list(places(document)), 0
    text = json.dumps(document)
    for _ in range(count):
        made = write(changed(text, chance, all_places))
        try:
            read(made)
            taken += 1
        except ArtifactError as error:
            if "\n" in str(error):
                pytest.fail(f"more than a line: {error}")
    return taken


@pytest.fixture(scope="module")
def good_manifest(artifact):
    document = json.loads((artifact.directory / "manifest.json").read_text())
    read_manifest(manifest_text(document))
    return document


def hunt_manifests(good_manifest, count):
    taken = hunt(good_manifest, count, 0, manifest_text, read_manifest)
    assert 0 < taken < count / 2


def test_a_changed_manifest_is_taken_or_refused_in_a_line(good_manifest):
    hunt_manifests(good_manifest, 1000)


@pytest.mark.long
def test_a_million_changed_manifests(good_manifest):
    hunt_manifests(good_manifest, 1_000_000)


@pytest.fixture(scope="module")
def good_checkpoint(artifact, tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "checkpoint"
    with Trainer(artifact.directory, threads=1) as trainer:
        trainer.save_checkpoint(path)
    return path.read_bytes()


def checkpoint_bytes(header, data):
    header = dict(header)
    if isinstance(header.get("__metadata__"), dict) and "sha256" in header["__metadata__"]:
        header["__metadata__"] = {**header["__metadata__"], "sha256": "0" * 64}
    text = json.dumps(header, separators=(",", ":")).encode().ljust(4088)
    raw = len(text).to_bytes(8, "little") + text + data
    at = raw.find(b'"sha256":"') + 10
    return raw[:at] + hashlib.sha256(raw).hexdigest().encode() + raw[at + 64 :]


def test_a_changed_checkpoint_header_is_taken_or_refused_in_a_line(good_checkpoint, tmp_path):
    header, data = json.loads(good_checkpoint[8:4096]), good_checkpoint[4096:]
    path = tmp_path / "checkpoint"

    def read(raw):
        path.write_bytes(raw)
        read_checkpoint(path)

    read(checkpoint_bytes(header, data))
    taken = hunt(header, 1000, 1, lambda made: checkpoint_bytes(made, data), read)
    assert 0 < taken < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["tensors"][1].update(shape=[1 << 32, 1 << 32]), "ends outside the state"),
        (lambda m: m["tensors"][1].update(shape=[1] * 1000, axes=None), "has 1000 axes"),
        (lambda m: m["tensors"][1].update(shape=[6.0, 1]), "shape is .* not of its type"),
        (lambda m: m["tensors"][1].update(shape=[-6, -1]), "lies at 0, not a multiple"),
        (lambda m: m["tensors"][2].update(offset=1 << 62), "ends outside the state"),
        (lambda m: m["tensors"][2].update(offset=0), "overlap in the state region"),
        (lambda m: m["tensors"][2].update(offset=True), "offset is 'True', which is not"),
        (lambda m: m["tensors"][2].update(dtype=["float32"]), "dtype is .* not of its type"),
        (lambda m: m["tensors"][2].update(dtype="float31"), "lacks or misspells|unknown dtype"),
        (lambda m: m["regions"].update(state_bytes=1e9), "state_bytes is .* not of its type"),
        (lambda m: m["files"].update({"../../x": {"bytes": 1, "sha256": ""}}), "leads out of"),
        (lambda m: m["files"].update({"/etc/passwd": {"bytes": 1, "sha256": ""}}), "leads out of"),
        (lambda m: m["files"].update({"step.o": {"bytes": 1}}), "lacks or misspells"),
        (lambda m: m["files"].update({"step.o": []}), "lacks or misspells"),
        (lambda m: m["target"].update(cpu_features=[1]), "is no text"),
    ],
)
def test_a_hostile_manifest_is_refused(artifact_copy, change, message):
    path = artifact_copy / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(manifest_text(document))
    with pytest.raises(ArtifactError, match=message) as raised:
        load_artifact(artifact_copy)
    assert "\n" not in str(raised.value)


def test_a_manifest_of_a_million_brackets_is_refused(artifact_copy):
    (artifact_copy / "manifest.json").write_text("[" * 1_000_000)
    with pytest.raises(ArtifactError, match="is not JSON"):
        load_artifact(artifact_copy)


def test_a_checkpoint_of_a_million_brackets_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes((1_000_000).to_bytes(8, "little") + b"[" * 1_000_000)
    with pytest.raises(ArtifactError, match="is not a checkpoint"):
        read_checkpoint(path)

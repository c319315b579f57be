"""Every file is hostile: cut anywhere, flipped anywhere in its header, with hashes set right."""

import hashlib
import json
import os
import platform
import shutil
import struct

import fake
import pytest
from building import call

from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset

pytestmark = [
    pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc"),
    pytest.mark.skipif(platform.system() != "Linux", reason="uses memfd_create"),
]


@pytest.fixture(scope="module")
def good(artifact, tmp_path_factory):
    """One good file for each reader."""
    folder = tmp_path_factory.mktemp("good")
    with Trainer(artifact.directory, threads=1) as trainer:
        trainer.step(*fake.samples(fake.BATCH), 0.05)
        trainer.save_checkpoint(folder / "checkpoint")
    write_dataset(folder / "data", artifact.description, *fake.samples(6))
    shutil.copyfile(artifact.weights, folder / "weights")
    return {name: folder / name for name in ("weights", "checkpoint", "data")}


def run(reader_driver, *words):
    done = call(reader_driver, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def header_end(path):
    if path.name == "data":
        return 64
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.parametrize("name", ["weights", "checkpoint", "data"])
def test_a_cut_or_flipped_file_is_refused(reader_driver, good, name):
    end, size = header_end(good[name]), good[name].stat().st_size
    found = run(reader_driver, name, good[name], end, 0)
    assert found == f"refused {size + 64 + 2 * end} accepted 0"


def test_a_right_hash_does_not_help_a_changed_checkpoint(reader_driver, good):
    """What may differ are the three counters; a digit that is one bit away is a digit again."""
    raw, end = good["checkpoint"].read_bytes(), header_end(good["checkpoint"])
    free = 64 * 2  # the hash itself, which is set right
    for field in ("step", "cursor", "seed"):
        at = raw.index(f'"{field}":"'.encode()) + len(field) + 4
        # 20 digits hold a little more than 64 bits: the first one is 1 at most
        for place in range(at, at + 20):
            flipped = chr(raw[place] ^ 1 << place % 8)
            free += flipped.isdigit() and (place > at or flipped < "2")
    total = len(raw) + 64 + 2 * end
    assert run(reader_driver, "checkpoint", good["checkpoint"], end, 1) == (
        f"refused {total - free} accepted {free}"
    )


def test_a_right_hash_does_not_help_a_changed_data_header(reader_driver, good):
    size = good["data"].stat().st_size
    found = run(reader_driver, "data", good["data"], 32, 1)
    assert found == f"refused {size + 64 + 2 * 32} accepted 0"


def taken(reader_driver, name, path, raw):
    path.write_bytes(raw)
    code, _, message = run(reader_driver, name, path).partition(" ")
    return int(code), message


def checkpoint_with(raw, change):
    """Change the JSON of a checkpoint, keep its size where that is possible, set the hash right."""
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    metadata = header["__metadata__"]
    metadata["sha256"] = "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(length)
    made = len(text).to_bytes(8, "little") + text + raw[8 + length :]
    digest = hashlib.sha256(made).hexdigest().encode()
    at = made.index(b'"sha256":"') + 10
    return made[:at] + digest + made[at + 64 :]


def set_row(**fields):
    return lambda header: header["fc.weight"].update(fields)


def bloat(header):
    header["__metadata__"]["note"] = "x" * 100_000


def same_offset(header):
    header["empty"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


CLASSES = {
    "a product of the shape that wraps": set_row(shape=[1 << 32, 1 << 32]),
    "a shape that is not its bytes": set_row(shape=[7, 1]),
    "a thousand dimensions": set_row(shape=[1] * 1000),
    "a negative dimension": set_row(shape=[-6, -1]),
    "an offset outside the file": set_row(data_offsets=[0, 1 << 62]),
    "offsets that run backwards": set_row(data_offsets=[24, 0]),
    "overlapping tensors": set_row(data_offsets=[64, 88]),
    "an unknown dtype": set_row(dtype="F99"),
    "a dtype of another width": set_row(dtype="F64"),
    "a dtype that is a number": set_row(dtype=32),
    "an entry that is a list": lambda header: header.update({"fc.weight": [1]}),
    "a tensor without elements at another's offset": same_offset,
    "a bloated header": bloat,
    "a missing tensor": lambda header: header.pop("fc.bias"),
    "another model": lambda header: header["__metadata__"].update(model="other"),
    "another backbone": lambda header: header["__metadata__"].update(frozen_sha256="1" * 64),
    "another format": lambda header: header["__metadata__"].update(format="pt"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_hostile_checkpoint_header_is_refused(reader_driver, good, tmp_path, name):
    raw = good["checkpoint"].read_bytes()
    assert checkpoint_with(raw, lambda header: None) == raw  # the forgery itself is right
    made = checkpoint_with(raw, CLASSES[name])
    code, message = taken(reader_driver, "checkpoint", tmp_path / "bad", made)
    assert code == 5
    assert "its header differs" in message or "truncated, or of another artifact" in message


@pytest.mark.parametrize(
    "length", [0, 1, 7, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 100_000_001, 4087, 4096]
)
def test_a_hostile_header_length_is_refused(reader_driver, good, tmp_path, length):
    for name in ("weights", "checkpoint"):
        raw = good[name].read_bytes()
        assert int.from_bytes(raw[:8], "little") != length
        made = struct.pack("<Q", length) + raw[8:]
        assert taken(reader_driver, name, tmp_path / "bad", made)[0] == 5


@pytest.mark.parametrize("digits", ["18446744073709551616", "99999999999999999999", "-" + "1" * 19])
def test_a_counter_that_overflows_is_refused(reader_driver, good, tmp_path, digits):
    raw = checkpoint_with(
        good["checkpoint"].read_bytes(), lambda header: header["__metadata__"].update(step=digits)
    )
    code, message = taken(reader_driver, "checkpoint", tmp_path / "bad", raw)
    assert (code, "its counters are not numbers" in message) == (5, True)


@pytest.mark.parametrize("function", ["weights", "checkpoint"])
def test_what_is_no_file_is_refused_at_once(reader_driver, artifact, good, tmp_path, function):
    """A FIFO without a writer would make open() wait for ever, a folder has no bytes to map."""
    os.mkfifo(tmp_path / "fifo")
    given = {"weights": artifact.weights, "checkpoint": good["checkpoint"]}
    write_dataset(tmp_path / "data", artifact.description, *fake.samples(4))
    for place in (tmp_path / "fifo", tmp_path, "/dev/zero"):
        paths = {**given, function: place}
        words = ("evaluate", "--weights", paths["weights"], "--resume", paths["checkpoint"])
        done = call(artifact.executable, *words, "--data", tmp_path / "data", timeout=20)
        assert done.returncode == 1
        assert str(place) in done.stderr
        assert done.stderr.count("\n") == 1

import subprocess
from dataclasses import replace

import fake
import numpy as np
import pytest

from pock_tvm.artifact.dataset_file import read_dataset, write_dataset
from pock_tvm.errors import ArtifactError, BatchError


@pytest.fixture
def written(artifact, tmp_path):
    path = tmp_path / "digits.pockdata"
    assert write_dataset(path, artifact.description, *fake.samples(9)) == 9
    return path


def evaluate(artifact, path):
    command = [artifact.executable, "evaluate", "--weights", artifact.weights, "--data", path]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_what_is_written_is_read_back(artifact, written):
    x, labels = fake.samples(9)
    found = read_dataset(written, artifact.description)
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["labels"], labels)
    assert len(written.read_bytes()) == 64 + 9 * (6 * 4 + 4)


def test_inputs_are_packed_in_stored_layout(tmp_path):
    x = np.arange(4 * 2 * 3, dtype=np.float32).reshape(4, 2, 3)
    made = fake.description()
    tensors = tuple(
        replace(t, shape=(4, 3, 2), axes=(0, 2, 1)) if t.name == "x" else t for t in made.tensors
    )
    made = replace(made, tensors=tensors)
    write_dataset(tmp_path / "d", made, x, np.zeros(4, np.int64))
    found = read_dataset(tmp_path / "d", made)["x"]
    np.testing.assert_array_equal(found, x.transpose(0, 2, 1))


@pytest.mark.parametrize("count", range(1, 17))
def test_both_readers_agree_on_every_length_of_the_hash(artifact, tmp_path, count):
    write_dataset(tmp_path / "d", artifact.description, *fake.samples(count))
    done = evaluate(artifact, tmp_path / "d")
    assert f'"samples": {count}' in done.stdout, done.stderr


@pytest.mark.parametrize("place", [0, 8, 12, 16, 24, 31, 32, 63, 64, -1])
def test_any_flipped_byte_is_refused_by_both_readers(artifact, written, place):
    raw = bytearray(written.read_bytes())
    raw[place] ^= 1
    written.write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"digits\.pockdata "):
        read_dataset(written, artifact.description)
    done = evaluate(artifact, written)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"pock_train: {written} ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("length", [0, 63, 64, 100])
def test_a_truncated_file_is_refused_by_both_readers(artifact, written, length):
    written.write_bytes(written.read_bytes()[:length])
    with pytest.raises(ArtifactError, match=r"truncated|not a \.pockdata"):
        read_dataset(written, artifact.description)
    assert evaluate(artifact, written).returncode == 1


def test_the_data_of_another_model_is_refused(artifact, tmp_path):
    made = fake.description()
    same_size = replace(made.tensor("x"), shape=(4, 2, 3))
    other = replace(made, tensors=tuple(same_size if t.name == "x" else t for t in made.tensors))
    write_dataset(tmp_path / "d", other, np.zeros((4, 2, 3), np.float32), np.zeros(4, np.int32))
    with pytest.raises(ArtifactError, match="other inputs or labels"):
        read_dataset(tmp_path / "d", made)
    assert "other inputs or labels" in evaluate(artifact, tmp_path / "d").stderr


def test_bad_samples_are_not_packed(artifact, tmp_path):
    x, labels = fake.samples(9)
    with pytest.raises(BatchError, match="is 7; valid are 0 to 2"):
        write_dataset(tmp_path / "d", artifact.description, x, np.full(9, 7))
    with pytest.raises(BatchError, match="different numbers of samples"):
        write_dataset(tmp_path / "d", artifact.description, x, labels[:8])
    with pytest.raises(ArtifactError, match="No such file"):
        write_dataset(tmp_path / "no" / "d", artifact.description, x, labels)
    assert not list(tmp_path.iterdir())

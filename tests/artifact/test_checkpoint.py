import subprocess
from dataclasses import replace

import fake
import numpy as np
import pytest
from safetensors.numpy import load_file, safe_open

from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.errors import ArtifactError

X, LABELS = fake.samples(fake.BATCH)


@pytest.fixture
def checkpoint(trainer, tmp_path):
    path = tmp_path / "good.safetensors"
    for _ in range(3):
        trainer.step(X, LABELS, 0.05)
    trainer.save_checkpoint(path)
    return path


def run(artifact, *words):
    command = [str(artifact.executable), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_checkpoint_is_an_ordinary_safetensors_file(trainer, checkpoint):
    with safe_open(checkpoint, "np") as file:
        assert file.metadata()["step"] == "00000000000000000003"
    stored = load_file(checkpoint)
    names = ("fc.weight", "fc.bias", "fc.weight.momentum", "fc.bias.momentum")
    assert set(names) == {name for name in stored if not name.startswith("pad.")}
    for name in names:
        np.testing.assert_array_equal(stored[name], trainer.tensor(name, original_layout=False))


def test_training_goes_on_bit_for_bit(artifact, trainer, checkpoint):
    expected = [trainer.step(X, LABELS, 0.05) for _ in range(5)]
    with Trainer(artifact.directory) as other:
        other.load_checkpoint(checkpoint)
        assert other.steps_done == 3
        assert [other.step(X, LABELS, 0.05) for _ in range(5)] == expected


def test_executable_and_trainer_exchange_checkpoints(artifact, trainer, tmp_path):
    trainer.step(X, LABELS, 0.05)
    ours, theirs, back = (tmp_path / name for name in ("ours", "theirs", "back"))
    trainer.save_checkpoint(ours)
    write_dataset(tmp_path / "data", artifact.description, X, LABELS)
    given = ("--weights", artifact.weights, "--data", tmp_path / "data", "--lr", "0.05")
    done = run(artifact, "train", *given, "--steps", 2, "--resume", ours, "--checkpoint", theirs)
    assert done.returncode == 0, done.stderr
    trainer.load_checkpoint(theirs)
    assert trainer.steps_done == 3
    trainer.save_checkpoint(back)
    assert back.read_bytes() == theirs.read_bytes()


def test_any_flipped_byte_is_refused(trainer, checkpoint, tmp_path):
    raw = checkpoint.read_bytes()
    header_end = raw.index(b"}}", 8) + 2
    data = len(raw) - fake.description().regions.state_bytes
    places = [0, 7, *range(8, header_end, 7), header_end, data - 1, *range(data, len(raw), 5)]
    before, steps = trainer.tensor("fc.weight"), trainer.steps_done
    bad = tmp_path / "bad.safetensors"
    for place in places:
        changed = bytearray(raw)
        changed[place] ^= 1
        bad.write_bytes(changed)
        with pytest.raises(ArtifactError, match=r"bad\.safetensors (is|is not|has) ") as raised:
            trainer.load_checkpoint(bad)
        assert "\n" not in str(raised.value)
    np.testing.assert_array_equal(trainer.tensor("fc.weight"), before)
    assert trainer.steps_done == steps


@pytest.mark.parametrize("length", [0, 1, 100, 4096, -1, 5000])
def test_a_wrong_length_is_refused(trainer, checkpoint, length):
    raw = checkpoint.read_bytes()
    checkpoint.write_bytes((raw * 2)[: length if length >= 0 else len(raw) - 1])
    with pytest.raises(ArtifactError, match=r"has \d+ bytes, not 4352: truncated"):
        trainer.load_checkpoint(checkpoint)


def test_the_checkpoint_of_another_backbone_is_refused(trainer, checkpoint, tmp_path, monkeypatch):
    given = fake.values()
    given["scale"][0] += 1
    monkeypatch.setattr(fake, "values", lambda: given)
    other = fake.write(tmp_path / "other").directory
    with Trainer(other) as stranger, pytest.raises(ArtifactError, match="its header differs"):
        stranger.load_checkpoint(checkpoint)


def test_the_checkpoint_fits_the_same_model_built_otherwise(checkpoint, tmp_path):
    made = replace(fake.description(), batch=4, loss={"name": "mse"})
    with Trainer(fake.write(tmp_path / "again", made=made).directory) as trainer:
        trainer.load_checkpoint(checkpoint)
        assert trainer.steps_done == 3


def test_tensors_of_every_dtype_and_size_fit_into_the_files(tmp_path, monkeypatch):
    """Scalars, empty tensors, gaps of all lengths, dtypes that numpy does not know."""
    odd = (
        ("step", "int64", ()),
        ("mask", "bool", (3,)),
        ("half", "float16", (5, 3)),
        ("brain", "bfloat16", (7,)),
        ("nothing", "float32", (0, 4)),
        ("wide", "float64", (17,)),
        ("byte", "uint8", (64,)),
    )
    made, values, tensors = fake.description(), fake.values(), list(fake.TENSORS)
    rng = np.random.default_rng(2)
    offset = 128
    for name, dtype, shape in odd:
        spec = replace(tensors[2], name=name, dtype=dtype, shape=shape, offset=offset)
        tensors.append(spec)
        offset += -(-spec.nbytes // 64) * 64
        stored = {"bfloat16": "uint16"}.get(dtype, dtype)
        values[name] = np.asarray(rng.integers(0, 2, shape)).astype(stored)
    moved = {"fc.weight.momentum": offset, "fc.bias.momentum": offset + 64}
    tensors = [replace(t, offset=moved.get(t.name, t.offset)) for t in tensors]
    regions = replace(made.regions, trainable_bytes=offset, state_bytes=offset + 128)
    monkeypatch.setattr(fake, "values", lambda: values)
    made = replace(made, tensors=tuple(tensors), regions=regions, entries=made.entries[1:])
    artifact = fake.write(tmp_path / "a", made=made)
    with Trainer(artifact.directory) as trainer:
        trainer.save_checkpoint(tmp_path / "checkpoint")
        trainer.load_checkpoint(tmp_path / "checkpoint")
        for path in (artifact.weights, tmp_path / "checkpoint"):
            with safe_open(path, "pt") as file:
                for name, _, shape in odd:
                    assert tuple(file.get_slice(name).get_shape()) == shape
        for name, _, _ in odd:
            np.testing.assert_array_equal(trainer.tensor(name), values[name])
        trainer.export(tmp_path / "exported")
        with safe_open(tmp_path / "exported", "pt") as file:
            assert {name for name, _, _ in odd} < set(file.keys())


def test_a_full_disk_keeps_the_old_checkpoint(trainer, checkpoint):
    good = checkpoint.read_bytes()
    partial = checkpoint.with_name(f"{checkpoint.name}.partial")
    partial.symlink_to("/dev/full")
    trainer.step(X, LABELS, 0.05)
    with pytest.raises(ArtifactError, match="No space left on device; what stood there before is"):
        trainer.save_checkpoint(checkpoint)
    assert checkpoint.read_bytes() == good
    assert not partial.is_symlink()


@pytest.mark.parametrize("limit", [0, 3000, 4200])
def test_a_file_size_limit_keeps_the_old_checkpoint(artifact, checkpoint, tmp_path, limit):
    good = checkpoint.read_bytes()
    write_dataset(tmp_path / "data", artifact.description, X, LABELS)
    script = (
        f"import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    words = ["train", "--weights", artifact.weights, "--data", tmp_path / "data", "--steps", 1]
    words += ["--lr", 0.1, "--checkpoint", checkpoint]
    command = ["python3", "-c", script, artifact.executable, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"pock_train: cannot write checkpoint {checkpoint}: ")
    assert done.stderr.count("\n") == 1
    assert checkpoint.read_bytes() == good
    assert {path.name for path in tmp_path.iterdir()} == {"data", "good.safetensors"}


def test_a_place_that_cannot_be_written_is_named(trainer, tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot create .*nowhere/c\.partial: No such file"):
        trainer.save_checkpoint(tmp_path / "nowhere" / "c")
    with pytest.raises(ArtifactError, match=r"cannot read .*: No such file"):
        trainer.load_checkpoint(tmp_path / "c")

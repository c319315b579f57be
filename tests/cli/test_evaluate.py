import numpy as np
import pytest

from pock_tvm import Trainer


def test_json_equals_the_trainer(pock, small_artifact, small_data, small_samples):
    result = pock("evaluate", small_artifact.directory, "--data", small_data, "--json")
    with Trainer(small_artifact.directory) as trainer:
        found = trainer.evaluate(*small_samples)
    assert result["loss"] == pytest.approx(found.loss, rel=1e-6)
    assert result["accuracy"] == found.accuracy
    assert result["samples"] == 22


def test_a_checkpoint_is_better(pock, small_artifact, small_data, tmp_path):
    start = (small_artifact.directory, "--data", small_data, "--checkpoint", tmp_path / "c")
    before = pock("evaluate", *start[:3], "--json")
    pock("train", *start, "--lr", 0.1, "--epochs", 8)
    after = pock("evaluate", *start, "--json")
    assert after["loss"] < before["loss"]
    assert after["steps_done"] == 44


def test_tables(pock, small_artifact, small_data):
    text = pock("evaluate", small_artifact.directory, "--data", small_data, "--threads", 1)
    assert "build, 22 samples\n" in text
    assert "accuracy  " in text


def test_a_missing_checkpoint(refused, small_artifact, small_data, tmp_path):
    start = ("evaluate", small_artifact.directory, "--data", small_data)
    assert "No such file" in refused(*start, "--checkpoint", tmp_path / "none")


def test_labels_are_needed(refused, small_artifact, small_samples, tmp_path):
    np.savez(tmp_path / "d.npz", pixels=small_samples[0])
    message = refused("evaluate", small_artifact.directory, "--data", tmp_path / "d.npz")
    assert "holds no array 'labels'" in message

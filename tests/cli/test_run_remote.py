import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "artifact"))
import fake


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("artifact") / "net", executable=True)


@pytest.fixture
def given(pock, artifact, tmp_path):
    x, labels = fake.samples(8)
    np.savez(tmp_path / "data.npz", x=x, labels=labels)
    url = f"file://{tmp_path}/net"
    pock("deploy", artifact.directory, url, "--no-self-test")
    words = ("run-remote", artifact.directory, url, "--data", tmp_path / "data.npz", "--lr", 0.05)
    return (*words, "--checkpoint", tmp_path / "saved")


def test_tables(pock, given, tmp_path):
    text = pock(*given, "--steps", 3)
    assert f"file://{tmp_path}/net, 3 steps\n" in text
    assert "steps since compilation  3\n" in text
    pock(*given, "--steps", 2, "--threads", 1, "--resume", "--schedule", "cosine:end=0.1")


def test_a_misspelt_schedule_is_refused_before_anything_is_sent(refused, given):
    assert "schedule" in refused(*given, "--schedule", "circle")


def test_either_steps_or_epochs(misused, given):
    assert "either --epochs or --steps" in misused(*given, "--steps", 1, "--epochs", 1)

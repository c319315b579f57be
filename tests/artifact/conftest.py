"""One artifact for all tests that only read it."""

import shutil

import fake
import pytest

from pock_tvm import Trainer


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact") / "fake"
    return fake.write(folder, executable=True)


@pytest.fixture
def artifact_copy(artifact, tmp_path):
    """A folder that a test may damage."""
    return shutil.copytree(artifact.directory, tmp_path / "copy")


@pytest.fixture
def trainer(artifact):
    with Trainer(artifact.directory, threads=2) as made:
        yield made

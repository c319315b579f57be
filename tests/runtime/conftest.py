"""The artifact around ``fake_step.c``, as the tests in ``tests/artifact`` use it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "artifact"))


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    """The fake artifact for this machine; tests only read it."""
    import fake

    return fake.write(tmp_path_factory.mktemp("artifact") / "fake", executable=True)


@pytest.fixture(scope="session")
def reader_driver(artifact, tmp_path_factory):
    """Feeds files to the readers, under AddressSanitizer."""
    from building import READERS, SANITIZERS, build_driver

    output = tmp_path_factory.mktemp("driver") / "hostile_driver"
    flags = SANITIZERS["address"]
    return build_driver(artifact, "hostile_driver.c", output, *flags, names=READERS)

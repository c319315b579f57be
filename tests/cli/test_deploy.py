import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "artifact"))
import fake


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("artifact") / "net", executable=True)


def test_tables(pock, artifact, tmp_path):
    url = f"file://{tmp_path}/net"
    text = pock("deploy", artifact.directory, url)
    assert text.startswith(f"{url}\n  sent ")
    assert "\nself-test\n  losses    " in text
    assert ", by this machine\n" in text
    assert "sent   nothing: all of it is there\n" in pock("deploy", artifact.directory, url)


def test_what_is_no_place_is_wrong_usage(misused, artifact):
    assert "is no place; write ssh://" in misused("deploy", artifact.directory, "berry:/net")


def test_a_runner_that_is_no_command_is_wrong_usage(misused, artifact, tmp_path):
    words = ("deploy", artifact.directory, f"file://{tmp_path}/net", "--runner", "'a")
    assert "is no command" in misused(*words)


def test_what_is_no_artifact_is_refused(refused, tmp_path):
    assert "is not an artifact" in refused("deploy", tmp_path, f"file://{tmp_path}/net")

"""A folder of this machine, and adb, for which a script stands that runs what adb would."""

import shutil

import fake
import pytest

from pock_tvm.artifact.load import file_sha256

ADB = """#!/bin/sh
if [ "$1 $3 $4" != "-s shell -T" ] || [ $# != 5 ]; then echo "usage" >&2; exit 2; fi
if [ "$2" != R58M ]; then echo "adb: device '$2' not found" >&2; exit 1; fi
exec sh -c "$5"
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("artifact") / "net", executable=True)


@pytest.fixture
def adb(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adb").write_text(ADB)
    (tmp_path / "bin" / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def test_a_folder_of_this_machine(pock, artifact, tmp_path):
    place = f"file://{tmp_path}/net"
    found = pock("deploy", artifact.directory, place, "--json")
    assert found["sent_bytes"] == found["total_bytes"]
    assert found["self_test"]["expected_from"] == "this machine"
    assert pock("deploy", artifact.directory, place, "--json")["sent"] == []


def test_adb(pock, adb, artifact, tmp_path):
    place = f"adb://R58M{tmp_path}/net"
    found = pock("deploy", artifact.directory, place, "--json")
    assert found["self_test"]["losses"] == found["self_test"]["expected"]
    assert file_sha256(tmp_path / "net" / "pock_train") == file_sha256(artifact.executable)
    message = pock("deploy", artifact.directory, "adb://OTHER/net", "--json")
    assert "adb: device 'OTHER' not found" in message


def test_adb_that_is_not_installed(pock, artifact, tmp_path, monkeypatch):
    if shutil.which("adb"):
        monkeypatch.setenv("PATH", str(tmp_path))
    message = pock("deploy", artifact.directory, "adb://R58M/net", "--json")
    assert "adb is not installed on this machine" in message

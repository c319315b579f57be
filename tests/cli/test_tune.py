"""``pock tune`` from the command line: a tiny net, on this machine and through a tracker."""

import shutil

import pytest

from pock_tvm.record_files import read_records
from pock_tvm.targets import get_target


def test_a_few_trials_on_this_machine(pock, small_artifact, tmp_path):
    found = pock(
        *("tune", small_artifact.directory, "--trials", 2, "--least-share", 0),
        *("--records", tmp_path, "--json"),
    )
    core = get_target("host").core
    assert (found["trials"], found["core"]) == (2, core)
    assert found["devices"] == ["this machine"]
    assert sum(row["trials"] for row in found["problems"]) == 2
    assert 0 < sum(row["share"] for row in found["problems"]) < 1
    journal = tmp_path / f"{core}.trials.jsonl"
    assert len(journal.read_text().splitlines()) == 2
    if (tmp_path / f"{core}.json").exists():
        assert read_records(tmp_path / f"{core}.json", core)


def test_a_table_of_problems(pock, small_artifact, tmp_path):
    text = pock("tune", small_artifact.directory, "--trials", 1, "--records", tmp_path)
    assert text.startswith(f"{small_artifact.description.model} on host, core ")
    assert str(tmp_path) in text
    assert "slowest problems\n  kernel" in text


@pytest.mark.parametrize("given", [("--rpc", "127.0.0.1:9190"), ("--key", "pi")])
def test_a_tracker_and_a_key_go_together(misused, small_artifact, given):
    assert "--rpc and --key go together" in misused("tune", small_artifact.directory, *given)


def test_what_cannot_be_tuned(refused, small_artifact, artifact_copy, tmp_path, monkeypatch):
    net = small_artifact.directory
    assert "is not an artifact" in refused("tune", tmp_path)
    message = refused("tune", net, "--rpc", "127.0.0.1:1", "--key", "pi", "--records", tmp_path)
    assert "no TVM RPC tracker answers at 127.0.0.1:1" in message
    assert "names no tracker" in refused("tune", net, "--rpc", "here", "--key", "pi")
    core = get_target("host").core
    (tmp_path / f"{core}.json").write_text("{")
    monkeypatch.setenv("POCK_RECORDS", str(tmp_path))
    assert "is not JSON" in refused("tune", net, "--trials", 1)
    monkeypatch.setenv("POCK_RECORDS", "off")
    assert "POCK_RECORDS is off" in refused("tune", net)
    shutil.rmtree(artifact_copy / "runtime")
    assert "is missing; copy the artifact again" in refused("tune", artifact_copy)

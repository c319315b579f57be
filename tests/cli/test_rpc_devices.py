"""``pock bench`` and ``pock tune`` through a real TVM RPC tracker and two servers on loopback."""

from dataclasses import replace

import pytest
import rpc_fleet

from pock_tvm.artifact.load import load_artifact
from pock_tvm.cli.rpc_devices import tuned_spec
from pock_tvm.errors import TuningError
from pock_tvm.targets import get_target


@pytest.fixture(scope="module")
def fleet():
    with rpc_fleet.started() as found:
        yield found


def test_the_kernels_of_a_step_are_timed_on_both_devices(pock, small_artifact, fleet):
    tracker, key = fleet
    rpc_fleet.wait_for(*fleet, 2)
    options = ("--rpc", tracker, "--key", key, "--threads", 1, "--steps", 3)
    found = pock("bench", small_artifact.directory, *options, "--json")
    (table,) = found["artifacts"]
    calls = [call["kernel"] for call in small_artifact.plan()["train_step"]["calls"]]
    assert {row["kernel"]: row["calls"] for row in table["kernels"]} == {
        name: calls.count(name) for name in calls
    }
    assert table["devices"] == [f"{key} 1", f"{key} 2"]
    assert {row["device"] for row in table["kernels"]} == set(table["devices"])
    for row in table["kernels"]:
        assert row["step_ms"] == pytest.approx(row["us"] * row["calls"] / 1e3)
        assert row["us"] > 0
    steps = [row["step_ms"] for row in table["kernels"]]
    assert steps == sorted(steps, reverse=True)
    assert table["kernels_ms"] == pytest.approx(sum(steps))

    rpc_fleet.wait_for(*fleet, 2)
    text = pock("bench", small_artifact.directory, *options)
    assert f"devices                        {key} 1, {key} 2" in text
    assert "slowest kernels\n  kernel" in text


def test_a_fleet_tunes_together(pock, small_artifact, fleet, tmp_path):
    tracker, key = fleet
    rpc_fleet.wait_for(*fleet, 2)
    found = pock(
        *("tune", small_artifact.directory, "--rpc", tracker, "--key", key, "--trials", 4),
        *("--least-share", 0, "--records", tmp_path, "--json"),
    )
    assert found["devices"] == [f"{key} 1", f"{key} 2"]
    assert found["trials"] == 4
    lines = (tmp_path / f"{found['core']}.trials.jsonl").read_text().splitlines()
    kernels = {call["kernel"] for call in small_artifact.plan()["train_step"]["calls"]}
    assert len(lines) == len(kernels) + 4


def test_a_key_that_no_device_has(refused, small_artifact, fleet):
    tracker, key = fleet
    rpc_fleet.wait_for(*fleet, 2)
    message = refused("bench", small_artifact.directory, "--rpc", tracker, "--key", "pi")
    assert f"no free device of key 'pi'; free keys: {key}" in message


def test_a_key_without_a_tracker(misused, small_artifact):
    assert "--rpc and --key go together" in misused("bench", small_artifact.directory, "--key", "a")


def test_what_is_measured_nowhere_and_what_is_measured_elsewhere(small_artifact):
    def of(target):
        description = replace(small_artifact.description, target=target)
        return replace(small_artifact, description=description)

    assert tuned_spec(of("host"), is_remote=False) == get_target("host")
    assert tuned_spec(of("raspberry-pi-4"), is_remote=True).core == "cortex-a72"
    with pytest.raises(TuningError, match=r"name a tracker that has one by --rpc HOST:PORT"):
        tuned_spec(of("raspberry-pi-4"), is_remote=False)
    with pytest.raises(TuningError, match=r"a GPU; kernels of processors are measured"):
        tuned_spec(of("opencl"), is_remote=True)
    with pytest.raises(TuningError, match="no operating system"):
        tuned_spec(of("cortex-m7"), is_remote=True)
    assert load_artifact(small_artifact.directory).description.target == "host"

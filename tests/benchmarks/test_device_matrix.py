"""The matrix of devices runs, tells apart what differs, and its record says what it says."""

import shutil

import pytest

from benchmarks import devices


def row(target, losses, difference):
    found = {"model": "m", "update": "full", "target": target}
    return {**found, "losses": losses, "worst_difference": difference}


def test_it_names_losses_that_are_off_the_host_or_apart():
    assert devices.disagreements([row("a", [1.0, 2.0], 0.0), row("b", [1.0, 2.0001], 5e-5)]) == []
    said = devices.disagreements([row("a", [1.0, 2.0], 9e-5), row("b", [1.0, 2.0003], 2e-4)])
    assert said == ["m full: b is 2.0e-04 off the host", "m full: b, a: 1.5e-04 apart"]
    assert devices.worst_difference([1.0, float("nan")], [1.0, 1.0]) == float("inf")


@pytest.mark.slow
def test_a_transformer_trains_alike_on_a_raspberry_pi():
    if not shutil.which("qemu-aarch64"):
        pytest.skip("needs qemu-aarch64 (Debian package qemu-user)")
    (found,) = devices.run_cases("llama_tiny", "preset", ["raspberry-pi-4"])
    assert found["worst_difference"] <= devices.TOLERANCE
    assert found["losses"][-1] < found["losses"][0] / 2
    assert found["executable_bytes"] <= 1.5e6


def test_the_record_has_every_preset_on_every_target():
    cases = {(r["model"], r["target"]) for r in devices.recorded() if r["update"] == "preset"}
    assert cases == {(m, t) for m in devices.MODELS for t in devices.TARGETS}

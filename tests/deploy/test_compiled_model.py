"""A compiled net on a device: deployed, proven against a host artifact, trained, evaluated here."""

import shutil

import numpy as np
import pytest
import small_net

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend import load_model


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs qemu-aarch64")
def test_a_raspberry_pi_trains_what_the_workstation_goes_on_with(
    pock, device, small_artifact, small_samples, small_data, tmp_path
):
    model = load_model("small_net:build", small_net.BATCH)
    pock_tvm.compile(model, tmp_path / "pi", target="raspberry-pi-4")
    place, saved = device.at(device.folder / "net"), tmp_path / "saved"
    given = ("--ssh-config", device.config, "--runner", "qemu-aarch64", "--json")
    reference = ("--reference", small_artifact.directory)
    test = pock("deploy", tmp_path / "pi", place, *reference, *given)["self_test"]
    assert test["expected_from"].endswith(str(small_artifact.directory))
    np.testing.assert_allclose(test["losses"], test["expected"], rtol=1e-4)
    assert test["losses"][0] != test["losses"][1]

    words = ("--data", small_data, "--lr", 0.05, "--steps", 8, "--checkpoint", saved)
    found = pock("run-remote", tmp_path / "pi", place, *words, *given)
    assert found["losses"][-1] < found["losses"][0]
    with Trainer(small_artifact.directory) as trainer:
        before = trainer.evaluate(*small_samples).loss
        trainer.load_checkpoint(saved)
        assert trainer.steps_done == 8
        assert trainer.evaluate(*small_samples).loss < before

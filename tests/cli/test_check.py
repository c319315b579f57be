from pathlib import Path

import numpy as np
import pytest
import small_net
from click.testing import CliRunner

from pock_tvm.cli import pock as command

QUARTER = Path(__file__).parents[1] / "checking" / "quarter.toml"


def test_a_convolutional_net_in_train_mode(pock, small_data):
    options = ("--batch", small_net.BATCH, "--batch-norm", "train", "--data", small_data)
    found = pock("check", "small_net:build", *options, "--optimizer", "adamw", "--json")
    assert found["ok"]
    rows = {row["name"]: row for row in found["tensors"]}
    module, _ = small_net.build()
    for name, _ in module.named_parameters():
        assert rows[name]["learns"] == "whole"
        assert rows[name]["finite_differences"] < 1e-6
        assert rows[name]["autograd"] < 1e-6
        assert rows[name]["step"] < 2e-2
    assert rows["features.norm.running_mean"]["learns"] == "statistics"


def test_a_share_of_channels(pock):
    text = pock("check", "small_transformer:build", "--update", QUARTER)
    (line,) = [line for line in text.splitlines() if "block.up.weight" in line]
    assert "8 of 32 channels" in line
    assert line.endswith("ok")
    assert "failed                        0" in text


def test_a_failure_is_an_exit_code(monkeypatch):
    from pock_tvm.checking import scheme

    step_once = scheme.step_once
    monkeypatch.setattr(
        scheme, "step_once", lambda artifact, samples, rate: step_once(artifact, samples, 2 * rate)
    )
    result = CliRunner().invoke(command, ["check", "small_net:build", "--update", "head"])
    assert result.exit_code == 1
    assert "the step differs from float64" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"pixels": np.zeros((2, 1, 8, 8), "float32")}, "the data hold"),
        ({"pixels": np.zeros((2, 9)), "labels": np.zeros(2, "int32")}, "takes at least"),
    ],
)
def test_data_that_do_not_fit(refused, tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    assert message in refused("check", "small_net:build", "--data", tmp_path / "d.npz")


def test_unknown_names(refused, tmp_path):
    assert "none.npz" in refused("check", "small_net:build", "--data", tmp_path / "none.npz")
    assert "matches no parameter" in refused("check", "small_net:build", "--update", "x.*")

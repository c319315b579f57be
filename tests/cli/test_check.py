import warnings
from pathlib import Path

import dropout_net
import numpy as np
import pytest
import small_net
import torch
from click.testing import CliRunner
from torch import nn

from pock_tvm.checking.report import Report
from pock_tvm.cli import pock as command
from pock_tvm.cli.check import print_report

PARTS = Path(__file__).parents[1] / "checking" / "parts.toml"


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


def test_a_share_of_channels_and_rows_of_an_embedding(pock):
    """With weight decay the dense form moves every row: the step must be the lazy one."""
    text = pock("check", "small_transformer:build", "--update", PARTS, "--optimizer", "adamw")
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert "8 of 32 channels" in rows["block.up.weight"]
    assert "rows of a batch" in rows["words.weight"]
    for name in ("block.up.weight", "words.weight"):
        assert rows[name].endswith("ok")
    assert "failed                        0" in text


def test_dropout_is_checked_on_request(pock):
    """Masks are the same in every call, and those of the compiled step; PyTorch's are others."""
    start = ("check", "dropout_net:build", "--batch", dropout_net.BATCH, "--dropout")
    found = pock(*start, "--update", "stem.*", "--json")
    assert found["ok"]
    assert (found["dropout"], found["dropouts"]) == (True, 5)
    errors = {row["name"]: row for row in found["tensors"]}["stem.weight"]
    assert 0 < errors["finite_differences"] < 1e-6
    assert 0 < errors["step"] < 1e-3  # other masks would make another step
    assert errors["autograd"] is None


@pytest.mark.parametrize(
    ("dropout", "said"), [(True, ", dropout in 3 places"), (False, ", without dropout in 3 places")]
)
def test_dropouts_are_told(capsys, dropout, said):
    report = Report(model="m", update="full", loss=1.0, tensors=(), dropouts=3, dropout=dropout)
    print_report(report)
    assert f"loss 1.0000{said}" in capsys.readouterr().out


def test_a_dropout_that_is_not_there_is_refused(refused):
    assert "has no dropout" in refused("check", "small_net:build", "--dropout")


class Two(nn.Module):
    """Returns two tensors."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 3)
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 5)

    def forward(self, x):
        y = torch.tanh(self.hidden(x)).mean(1)
        return self.a(y), self.b(y)


def two():
    torch.manual_seed(0)
    return Two(), (torch.zeros(1, 6, 4),)


def test_an_output_is_chosen(pock, refused):
    here = f"{__name__}:two"
    assert "--output-name" in refused("check", here)
    found = pock("check", here, "--output-name", "1", "--update", "hidden.*,b.*", "--json")
    assert found["ok"]
    rows = {row["name"]: row for row in found["tensors"]}
    assert rows["b.weight"]["autograd"] < 1e-6


def test_a_shape_is_fixed(pock, refused, tmp_path):
    """An ONNX file whose sequences have no length."""
    module, inputs = two()
    axes = {"x": {0: "batch", 1: "length"}}
    options = {"input_names": ["x"], "output_names": ["a", "b"], "dynamic_axes": axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(module.eval(), inputs, tmp_path / "two.onnx", dynamo=False, **options)
    start = ("check", tmp_path / "two.onnx", "--output-name", "a", "--update", "head")
    assert "--shape" in refused(*start)
    assert pock(*start, "--shape", "x=2,6,4", "--json")["ok"]


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
        ({"pixels": np.zeros((2, 1, 8, 8), "float32")}, "holds no array 'labels'"),
        ({"pixels": np.zeros((2, 9)), "labels": np.zeros(2, "int32")}, "'pixels' has shape (2, 9)"),
    ],
)
def test_data_that_do_not_fit(refused, tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    assert message in refused("check", "small_net:build", "--data", tmp_path / "d.npz")


def test_unknown_names(refused, tmp_path):
    assert "none.npz" in refused("check", "small_net:build", "--data", tmp_path / "none.npz")
    assert "matches no parameter" in refused("check", "small_net:build", "--update", "x.*")

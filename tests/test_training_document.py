"""What docs/training.md shows runs."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import dropout_net
import numpy as np
from click.testing import CliRunner

from pock_tvm.cli import pock
from pock_tvm.learning_rate import SCHEDULES

TEXT = (Path(__file__).parents[1] / "docs" / "training.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


def test_python_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("python")
    exec(compile(block, "training.md", "exec"), {})
    (wanted,) = re.findall(r"# (\d+):", block)
    first, second = capsys.readouterr().out.splitlines()
    assert first == wanted
    assert second.startswith("16 [")
    assert len(second.split(",")) == 12


def test_commands_run_on_a_small_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    pixels = generator.standard_normal((40, 1, 4, 4), "float32")
    np.savez("tokens.npz", pixels=pixels, labels=generator.integers(0, dropout_net.CLASSES, 40))
    (block,) = blocks("sh")
    for line in block.splitlines():
        arguments = shlex.split(line.replace("zoo:distilbert", "dropout_net:build"))
        assert arguments[0] == "pock"
        result = CliRunner().invoke(pock, arguments[1:], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        if arguments[1] == "compile":
            assert "in 5 places of the model" in result.stdout
            assert "steps of 4 batches of 4" in result.stdout
            assert "accumulators" in result.stdout


def test_every_schedule_stands_in_the_table_with_its_options():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*?) \|", TEXT, re.M))
    assert set(rows) == set(SCHEDULES)
    for name, kind in SCHEDULES.items():
        stated = re.findall(r"`(\w+)(?:=([^`]+))?`", rows[name])
        defaults = {field.name: field.default for field in fields(kind) if field.name != "every"}
        assert {key: float(value) for key, value in stated if value} == defaults

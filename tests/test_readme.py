"""What the README and the other documents show runs, and what they point at exists."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pock_tvm.cli import pock
from pock_tvm.losses import LOSSES
from pock_tvm.optimizers import OPTIMIZERS
from pock_tvm.targets import target_specs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def _commands():
    return [line for block in _blocks(README, "sh") for line in block.splitlines()]


def _run(line):
    arguments = shlex.split(line)
    assert arguments[0] == "pock"
    result = CliRunner().invoke(pock, arguments[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr


def test_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = _blocks(README, "python")
    exec(compile(block, "README.md", "exec"), {})
    assert "Evaluation(loss=" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "tiny.ckpt", "tiny.safetensors"}


def test_commands_run_on_a_small_model(tmp_path, monkeypatch, small_samples):
    monkeypatch.chdir(tmp_path)
    np.savez("photos.npz", pixels=small_samples[0], labels=small_samples[1])
    commands = _commands()
    assert len(commands) == 4
    for line in commands:
        _run(line.replace("zoo:mobilenet_v2", "small_net:build"))


@pytest.mark.slow
def test_commands_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    pictures = generator.standard_normal((16, 3, 224, 224), "float32")
    np.savez("photos.npz", pixel_values=pictures, labels=generator.integers(0, 1000, 16))
    for line in _commands():
        _run(line)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), link


def test_the_table_names_what_there_is():
    row = {line.split("|")[1].strip(" *"): line for line in README.splitlines() if "| **" in line}
    for names, key in ((target_specs(), "targets"), (LOSSES, "losses"), (OPTIMIZERS, "optimizers")):
        for name in names:
            assert f"`{name}`" in row[key]


def test_the_makefile_has_what_the_documents_name():
    makefile = (ROOT / "Makefile").read_text()
    for path in DOCUMENTS:
        for target in re.findall(r"`?\bmake ([a-z]+)`", path.read_text()):
            assert f"\n{target}:" in makefile, target


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("adding-*.md")), ids=lambda p: p.name)
def test_a_guide_ends_with_a_proof(path):
    (proof,) = _blocks(path.read_text(), "sh")
    assert path.read_text().endswith(f"```sh\n{proof}```\n")
    for named in re.findall(r"tests/\S+", proof):
        assert (ROOT / named).exists()

"""What all verbs have in common."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

import pock_tvm
from pock_tvm.cli import pock as command
from pock_tvm.cli.output import format_bytes, format_seconds, print_json, print_table


def test_help_names_every_verb_with_an_example(pock):
    for name in command.commands:
        assert name in pock("--help")
        assert f"$ pock {name}" in pock(name, "--help")


def test_version(pock):
    assert pock("--version") == f"pock, version {pock_tvm.__version__}\n"


def test_an_unknown_verb_is_wrong_usage(misused):
    assert "No such command 'retrain'" in misused("retrain")


def test_debug_shows_where_an_error_came_from(tmp_path):
    result = CliRunner().invoke(command, ["--debug", "inspect", str(tmp_path)])
    assert isinstance(result.exception, pock_tvm.PockError)


def test_a_bug_is_one_line_too(monkeypatch, small_artifact):
    def broken(*arguments):
        raise KeyError("offset")

    monkeypatch.setattr("pock_tvm.artifact.load.load_artifact", broken)
    result = CliRunner().invoke(command, ["inspect", str(small_artifact.directory)])
    assert result.exit_code == 1
    assert result.stderr.startswith("pock: internal error: KeyError: 'offset'")
    assert result.stderr.count("\n") == 1


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from pock_tvm.cli import pock\n"
        "try: pock(['compile', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'tvm', 'torch', 'onnx', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_the_script_is_installed():
    done = subprocess.run(
        [sys.executable, "-c", "from pock_tvm.cli import main; main()", "targets", "show", "mars"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("pock: unknown target 'mars'")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 45, "32,768.0 GiB"),
    ],
)
def test_format_bytes(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5e-6, "5 µs"), (0.0125, "12.50 ms"), (59.94, "59.9 s"), (125, "2 min 5 s")],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_json_has_no_nan(capsys):
    print_json({"loss": float("nan"), "losses": [1.0, float("inf")]})
    assert capsys.readouterr().out == '{"loss": null, "losses": [1.0, null]}\n'


def test_numbers_align_right(capsys):
    print_table("calls", ("name", "count"), [("a", 5), ("bb", 1000)])
    assert capsys.readouterr().out == "calls\n  name  count\n  a         5\n  bb     1000\n"

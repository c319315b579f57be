"""Run ``pock`` in this process."""

import json
import shutil

import pytest
from click.testing import CliRunner

from pock_tvm.cli import pock as command


@pytest.fixture
def pock():
    """Run a verb that must succeed; return its stdout, parsed if it was asked for JSON."""

    def run(*arguments):
        result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout) if "--json" in arguments else result.stdout

    return run


@pytest.fixture
def refused(monkeypatch):
    """Run a verb that must fail: exit code 1, one line on stderr, nothing on stdout."""
    monkeypatch.setattr("pock_tvm.cli.progress._SECONDS_BETWEEN_LINES", float("inf"))

    def run(*arguments):
        result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 1, (result.stdout, result.stderr)
        assert result.stdout == ""
        assert result.stderr.startswith("pock: ")
        assert result.stderr.count("\n") == 1
        assert "internal error" not in result.stderr
        return result.stderr

    return run


@pytest.fixture
def misused():
    """Run a verb that is used wrongly: exit code 2 and a hint on stderr."""

    def run(*arguments):
        result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 2, (result.stdout, result.stderr)
        return result.stderr

    return run


@pytest.fixture
def artifact_copy(small_artifact, tmp_path):
    """A folder that a test may damage."""
    return shutil.copytree(small_artifact.directory, tmp_path / "copy")

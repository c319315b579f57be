"""A compilation that was done before is copied, where nothing is damaged or in the way."""

import importlib

import pytest
import torch

from pock_tvm.artifact.artifact_cache import VARIABLE, ArtifactCache


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Write an exported program of a tiny net."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    path = tmp_path_factory.mktemp("model") / "tiny.pt2"
    torch.export.save(torch.export.export(net.eval(), (torch.zeros(2, 4),)), path)
    return path


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "artifacts"


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def forbid_compiling(monkeypatch):
    monkeypatch.setattr(
        importlib.import_module("pock_tvm.compile"), "compile", lambda *a, **k: 1 / 0
    )


def test_the_second_time_it_is_copied(monkeypatch, pock, program, cache, tmp_path):
    arguments = ("compile", program, "--batch", 2, "--json", "-o")
    first = pock(*arguments, tmp_path / "one")
    with monkeypatch.context() as patch:
        forbid_compiling(patch)
        second = pock(*arguments, tmp_path / "two")
        with pytest.raises(ZeroDivisionError):
            pock("--debug", *arguments, tmp_path / "three", "--no-cache")
        with pytest.raises(ZeroDivisionError):
            pock("--debug", *arguments, tmp_path / "three", "--update", "bias")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert {**first, "compile_s": 0} == {**second, "compile_s": 0}

    (kept,) = cache.iterdir()
    damaged = kept / "artifact" / "step.o"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    third = pock(*arguments, tmp_path / "three")
    assert content(tmp_path / "one") == content(tmp_path / "three")
    assert {**first, "compile_s": 0} == {**third, "compile_s": 0}
    assert ArtifactCache(cache.parent).copy_to(tmp_path / "four", kept.name), "and kept anew"


def test_what_stands_in_the_way_is_left_alone(pock, refused, program, cache, tmp_path):
    arguments = ("compile", program, "--batch", 2, "-o")
    pock(*arguments, tmp_path / "one")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    assert "is not an artifact" in refused(*arguments, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_room_is_made_by_what_was_used_longest_ago(pock, program, cache, tmp_path):
    pock("compile", program, "--batch", 2, "-o", tmp_path / "net")
    (kept,) = cache.iterdir()
    size = sum(len(raw) for raw in content(kept).values())
    folder = ArtifactCache(cache.parent)
    folder.make_room(size)
    assert folder.holds(kept.name)
    folder.make_room(size - 1)
    assert not folder.holds(kept.name)

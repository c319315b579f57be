"""Values of times are the machine's; what is checked here is what they are the times of."""

import itertools

import numpy as np
import pytest

from pock_tvm.artifact import step_times
from pock_tvm.artifact.load import load_artifact


@pytest.fixture
def started(monkeypatch):
    """The calls of sessions, in order: the artifact, what was called, the inputs at that time."""
    calls = []

    class Recorded(step_times.Session):
        def __init__(self, artifact, threads):
            super().__init__(artifact, threads)
            self.artifact = artifact
            self.pixels = self.view(artifact.description.tensor("pixels"))

        def train_step(self, learning_rate):
            calls.append((self.artifact.directory.name, learning_rate, self.pixels.copy()))
            return super().train_step(learning_rate)

    monkeypatch.setattr(step_times, "Session", Recorded)
    return calls


def test_artifacts_take_turns_on_the_same_samples(pock, small_artifact, artifact_copy, started):
    given = (small_artifact.directory, artifact_copy)
    found = pock("bench", *given, "--threads", 1, "--steps", 4, "--json")
    names = [path.name for path in given]
    expected = [names[:: -1 if count % 2 else 1] for count in range(-3, 4)]
    assert [name for name, _, _ in started] == list(itertools.chain(*expected))
    assert {rate for _, rate, _ in started} == {0.0}
    first = started[0][2]
    assert first.std() > 0.5
    assert all(np.array_equal(pixels, first) for _, _, pixels in started)
    assert [row["artifact"] for row in found["artifacts"]] == [str(path) for path in given]
    for row in found["artifacts"]:
        assert len(row["steps_ms"]) == 4
        assert 0 < row["least_ms"] <= row["quartiles_ms"][0] <= row["median_ms"]
        assert row["median_ms"] == pytest.approx(np.median(row["steps_ms"]), rel=1e-12)
        assert row["samples_per_s"] == pytest.approx(4e3 / row["median_ms"], rel=1e-12)
        assert row["cpu_median_ms"] > 0
    one, other = (np.array(row["steps_ms"]) for row in found["artifacts"])
    assert found["artifacts"][0]["of_first"] == 1
    ratio = found["artifacts"][1]["of_first"]
    assert ratio == pytest.approx(np.median(other / one), rel=1e-9)


def test_table_of_one_step(pock, small_artifact):
    text = pock("bench", small_artifact.directory, "--threads", 1, "--steps", 1)
    title, columns, row = text.splitlines()
    assert title == "1 steps in turn, 1 threads"
    assert columns.split()[:3] == ["artifact", "median", "ms"]
    assert row.split()[0] == str(small_artifact.directory)
    assert row.endswith("100%")


def test_a_step_is_all_of_its_micro_batches(tmp_path, monkeypatch):
    import small_net

    from pock_tvm import compile
    from pock_tvm.frontend import load_model

    model = load_model("small_net:build", small_net.BATCH)
    compile(model, tmp_path / "net", update="head", accumulate=3)
    calls = []

    class Recorded(step_times.Session):
        def accumulate(self):
            calls.append("accumulate")
            return super().accumulate()

        def train_step(self, learning_rate):
            calls.append("train_step")
            return super().train_step(learning_rate)

    monkeypatch.setattr(step_times, "Session", Recorded)
    step_times.time_steps([load_artifact(tmp_path / "net")], threads=1, steps=2)
    assert calls == ["accumulate", "accumulate", "train_step"] * 5  # three of them to warm up


def test_every_artifact_is_checked_before_one_runs(
    refused, small_artifact, artifact_copy, tmp_path, started
):
    assert "is not an artifact" in refused("bench", small_artifact.directory, tmp_path)
    with (artifact_copy / "weights.safetensors").open("ab") as weights:
        weights.write(b"x")
    assert "truncated or changed" in refused("bench", small_artifact.directory, artifact_copy)
    assert started == []


def test_an_artifact_of_another_machine_is_refused(refused, small_artifact, monkeypatch, started):
    monkeypatch.setattr("pock_tvm.artifact.machine.why_not_here", lambda *_: "this is no toaster")
    assert "this is no toaster" in refused("bench", small_artifact.directory)
    assert started == []


def test_wrong_usage(misused, small_artifact):
    assert "Missing argument" in misused("bench")
    assert "--steps" in misused("bench", small_artifact.directory, "--steps", 0)

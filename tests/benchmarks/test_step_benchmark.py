"""The harness on a small net: it runs, the systems agree, and the rows say what was measured."""

import pytest

from benchmarks import step


@pytest.fixture(scope="module")
def rows():
    arguments = ["--model", "small_net:build", "--batch", "4", "--steps", "3", "--warmup", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "tests")
        return step.main([*arguments, "--update", "bias", "--against", "torch"])


def test_every_system_did_the_same_work(rows) -> None:
    ours, theirs = rows
    assert (ours["system"], theirs["system"]) == ("pock", "torch")
    # float32 on both sides, four steps of a net of three layers
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_rows_hold_time_and_memory(rows) -> None:
    for row in rows:
        assert row["step_ms_min"] <= row["step_ms"] <= row["step_ms_max"]
        assert row["peak_bytes"] > 0
        assert {"model", "batch", "update", "threads", "core"} <= row.keys()
    assert rows[0]["planned_bytes"] < rows[0]["peak_bytes"]  # pages, stacks and the samples


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(SystemExit, match="unknown systems"):
        step.main(["--model", "small_net:build", "--against", "nobody"])

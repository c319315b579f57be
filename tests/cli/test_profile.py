import json


def test_every_call_is_timed(pock, small_artifact, tmp_path):
    trace = tmp_path / "trace.json"
    found = pock(
        *("profile", small_artifact.directory, "--threads", 1, "--steps", 3),
        *("--trace", trace, "--json"),
    )
    plan = small_artifact.plan()["train_step"]
    assert [call["kernel"] for call in found["calls"]] == [c["kernel"] for c in plan["calls"]]
    assert all(call["ns"] > 0 for call in found["calls"])
    assert sum(row["calls"] for row in found["kernels"]) == len(plan["calls"])
    assert abs(sum(row["share"] for row in found["kernels"]) - 1) < 1e-9
    assert {"features.stem", "classifier"} <= {call["layer"] for call in found["calls"]}
    assert found["peak_gflop_per_s"] > 0.1
    assert len(json.loads(trace.read_text())["traceEvents"]) == len(plan["calls"])


def test_tables(pock, small_artifact):
    text = pock("profile", small_artifact.directory, "--threads", 1, "--steps", 1, "--top", 2)
    assert "on host, 1 threads, 1 steps\n" in text
    table = text[text.index("slowest kernels\n") :]
    assert len(table.splitlines()) == 4

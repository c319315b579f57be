from benchmarks.step_table import step_table


def _row(system, ms, ratio, peak):
    case = {"model": "net", "update": "full", "batch": 1, "threads": 2}
    return {**case, "system": system, "step_ms": ms, "ratio": ratio, "peak_bytes": peak}


def test_the_last_run_of_a_case_counts_and_the_fastest_peer_is_compared():
    earlier = [_row("pock", 9.0, 1.0, 1_000_000), _row("mnn", 10.0, 0.9, 2_000_000)]
    later = [
        _row("pock", 5.0, 1.0, 3_000_000),
        _row("jax", 20.0, 0.25, 9_000_000),
        _row("torch", 8.0, 0.5, 7_000_000),
    ]
    table = step_table([*earlier, *later]).splitlines()
    assert table[0].split(" | ")[4:7] == ["pock", "PyTorch", "JAX"]
    assert table[2:] == ["| net | full | 1 | 2 | 5.0 | 8.0 | 20.0 | 2.00x | 3 | 7 |"]

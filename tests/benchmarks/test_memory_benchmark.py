"""Plans of a small net: what the rows of the memory benchmark say about each other."""

import pytest

from benchmarks import memory


def test_rows_hold_bytes_in_order(capsys) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "tests")
        rows = memory.main(
            ["--models", "small_net:build", "--batches", "4", "--updates", "full,head"]
        )
    full, head = rows
    for row in rows:
        assert row["least_bytes"] <= row["lower_bound_bytes"] <= row["transient_bytes"]
        assert row["lower_bound_bytes"] <= row["import_order_bytes"]
    assert head["transient_bytes"] < full["transient_bytes"]
    assert head["prefix_parts"]["train_step"] > 1
    assert not full["prefix_parts"]
    assert len(capsys.readouterr().out.splitlines()) == 2

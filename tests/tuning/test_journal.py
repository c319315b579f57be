"""A journal survives its writer."""

import json

import pytest

from pock_tvm.errors import TuningError
from pock_tvm.tuning.journal import Journal


def test_rows_are_read_back_but_those_of_other_code(tmp_path):
    path = tmp_path / "new" / "trials.jsonl"
    with Journal(path, "one") as journal:
        journal.add({"kernel": "a", "us": 3.0})
        journal.add({"kernel": "b", "us": 4.0})
    with Journal(path, "two") as journal:
        assert journal.rows == []
        journal.add({"kernel": "a", "us": 5.0})
    with Journal(path, "one") as journal:
        assert [(r["kernel"], r["us"]) for r in journal.rows] == [("a", 3.0), ("b", 4.0)]


def test_half_a_line_is_lost_and_nothing_else(tmp_path):
    path = tmp_path / "trials.jsonl"
    with Journal(path, "one") as journal:
        for number in range(3):
            journal.add({"number": number})
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in range(1, len(last)):
        path.write_bytes(whole[:-cut])
        with Journal(path, "one") as journal:
            kept = [row["number"] for row in journal.rows]
            assert kept == ([0, 1, 2] if cut == 1 else [0, 1])
            journal.add({"number": 3})
        with Journal(path, "one") as journal:
            assert [row["number"] for row in journal.rows] == [*kept, 3]


def test_what_is_no_row_is_passed_over(tmp_path):
    path = tmp_path / "trials.jsonl"
    rows = ["[]", "3", "{", "[" * 100_000, json.dumps({"version": "one", "number": 1}), "{}"]
    path.write_text("\n".join(rows) + "\n\xff")
    with Journal(path, "one") as journal:
        assert [row["number"] for row in journal.rows] == [1]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match="cannot keep trials in"):
        Journal(tmp_path / "file" / "trials.jsonl", "one")

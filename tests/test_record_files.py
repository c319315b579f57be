"""Files of records: written whole, read back, refused in one line where they are anything else."""

import json

import pytest

from pock_tvm.errors import RecordError
from pock_tvm.record_files import Record, read_records, record_file, records_of, write_records

RECORDS = {"a product": Record({"rows": 8}, 2.0, 1.5), "another": Record({}, 9.0, 3.0)}


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "new" / "znver5.json"
    write_records(path, "znver5", RECORDS)
    assert read_records(path, "znver5") == RECORDS
    before = path.read_bytes()
    write_records(path, "znver5", dict(reversed(RECORDS.items())))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["znver5.json"]


def test_the_users_records_come_first(tmp_path, monkeypatch):
    monkeypatch.setenv("POCK_RECORDS", str(tmp_path))
    assert records_of("cortex-zero") == {}
    path = tmp_path / "cortex-zero.json"
    write_records(path, "cortex-zero", RECORDS)
    assert records_of("cortex-zero") == {k: (v, path) for k, v in RECORDS.items()}


@pytest.mark.parametrize("core", ["../znver5", "", ".hidden", "a/b", "x" * 80])
def test_the_name_of_a_core_leads_out_of_no_folder(tmp_path, core):
    assert record_file(tmp_path, core) is None
    assert records_of(core) == {}


def _document(**change):
    good = {"format": "pock-records", "schema": 1, "core": "c", "records": {}}
    return json.dumps(good | change)


@pytest.mark.parametrize(
    "text,trouble",
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "lacks or misspells a field"),
        ("{}", "lacks or misspells a field"),
        (_document(schema=2), "no records of schema 1"),
        (_document(format="zip"), "no records of schema 1"),
        (_document(core="d"), "the records of 'd', not of 'c'"),
        (_document(records=[]), "lacks or misspells a field"),
        (_document(records={"p": {}}), "lacks or misspells a field"),
        (_document(records={"p": 3}), "lacks or misspells a field"),
        (
            _document(records={"p": {"decision": [], "before_us": 1, "after_us": 1}}),
            "lacks or misspells a field",
        ),
        (
            _document(records={"p": {"decision": {}, "before_us": "fast", "after_us": 1}}),
            "lacks or misspells a field",
        ),
    ],
)
def test_a_file_that_holds_something_else(tmp_path, text, trouble):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=trouble) as refused:
        read_records(path, "c")
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot write"):
        write_records(tmp_path / "file" / "c.json", "c", RECORDS)

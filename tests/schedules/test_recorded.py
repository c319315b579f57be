"""Records are found by what they were measured for, and refused where they cannot be right."""

import json

import pytest
from kernel_cases import fuse_kernel
from tvm.relax import op as R

from pock_tvm.errors import RecordError
from pock_tvm.record_files import Record, record_folders, user_folder, write_records
from pock_tvm.schedules import schedule_kernel
from pock_tvm.schedules.cpu.decision import problem_of, read_decision, rules_decision
from pock_tvm.schedules.cpu.gemm import open_contraction
from pock_tvm.schedules.recorded import recorded_decisions
from pock_tvm.targets import get_target, target_specs

SPEC = get_target("x86-64-v4")
SHAPES = ((40, 64), "float32"), ((64, 96), "float32")


@pytest.fixture
def kernel():
    return fuse_kernel(lambda a, b: R.matmul(a, b), *SHAPES)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("POCK_RECORDS", str(tmp_path))
    return tmp_path / f"{SPEC.core}.json"


def recorded(kernel, **change):
    c = open_contraction(kernel, SPEC)
    decision = rules_decision(c, SPEC).as_dict() | change
    return {problem_of(c, SPEC): Record(decision, 2.0, 1.0)}


def test_a_record_is_found_by_the_kernels_problem(kernel, file):
    assert recorded_decisions({"k": kernel}, SPEC) == {}
    write_records(file, SPEC.core, recorded(kernel, rows=3))
    relu = fuse_kernel(lambda a: R.nn.relu(a), SHAPES[0])
    other = fuse_kernel(lambda a, b: R.matmul(a, b), SHAPES[0], ((64, 97), "float32"))
    found = recorded_decisions({"k": kernel, "relu": relu, "other": other}, SPEC)
    assert list(found) == ["k"]
    assert found["k"].rows == 3
    assert not schedule_kernel(kernel, SPEC, found["k"]).same_as(schedule_kernel(kernel, SPEC))
    assert recorded_decisions({"k": kernel}, get_target("raspberry-pi-4")) == {}


def test_records_are_off_on_request(kernel, file, monkeypatch):
    write_records(file, SPEC.core, recorded(kernel, rows=3))
    monkeypatch.setenv("POCK_RECORDS", "off")
    assert record_folders() == ()
    assert recorded_decisions({"k": kernel}, SPEC) == {}
    with pytest.raises(RecordError, match="POCK_RECORDS is off"):
        user_folder()


@pytest.mark.parametrize(
    "change,trouble",
    [
        ({"rows": 64}, "a tile of 64 rows"),
        ({"rows": 0}, "out of any range"),
        ({"rows": "; rm"}, "no int"),
        ({"turbo": True}, "'turbo' is nothing that a decision decides"),
    ],
)
def test_a_record_that_is_not_legal_names_its_file(kernel, file, change, trouble):
    write_records(file, SPEC.core, recorded(kernel, **change))
    with pytest.raises(RecordError, match=trouble) as refused:
        recorded_decisions({"k": kernel}, SPEC)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_our_own_records_are_of_cores_and_can_be_read(monkeypatch):
    monkeypatch.delenv("POCK_RECORDS", raising=False)
    ours, _ = record_folders()
    cores = {spec.core for spec in target_specs().values()} | {"znver5", "znver4"}
    for path in ours.glob("*.json"):
        document = json.loads(path.read_text())
        assert path.stem in cores
        for row in document["records"].values():
            read_decision(row["decision"])
            assert row["after_us"] < row["before_us"]

"""Measured times beside the roofline, by call and by kernel."""

import pytest

from pock_tvm.artifact.profiler import Timings
from pock_tvm.report.profile import profile_calls, profile_kernels, trace_events


def tensor(name, nbytes):
    return {"name": name, "bytes": nbytes}


PLAN = {
    "calls": [
        {"kernel": "dense", "reads": ["x", "fc.weight"], "writes": ["a"], "flops": 4000},
        {"kernel": "relu", "reads": ["a", "a"], "writes": ["r"], "flops": 10},
        {"kernel": "dense", "reads": ["r", "head.weight"], "writes": ["y"], "flops": 4000},
        {"kernel": "big", "reads": ["huge"], "writes": ["y"], "flops": 0},
    ],
    "tensors": [
        *(tensor(name, 100) for name in ("x", "a", "r", "y", "fc.weight", "head.weight")),
        tensor("huge", 10**7),
    ],
}
TIMINGS = Timings(
    steps_ns=(9000,),
    calls_ns=((3000, 2000, 4000), (100,) * 3, (2000,) * 3, (20_000_000,) * 3),
    flops_per_s=2e9,
    cache_bytes_per_s=1e9,
    memory_bytes_per_s=1e9,
)
PARAMETERS = ("fc.weight", "head.weight")


@pytest.fixture
def calls():
    return profile_calls(PLAN, TIMINGS, 1, PARAMETERS)


def test_a_call_without_parameters_belongs_to_the_layer_that_it_follows(calls):
    assert [call.layer for call in calls] == ["fc", "fc", "head", ""]


def test_arithmetic_or_bytes_bound_a_call(calls):
    assert [call.ns for call in calls] == [3000, 100, 2000, 20_000_000]
    assert calls[0].roofline_ns == 4000 / 2
    assert calls[1].moved_bytes == 200  # an operand that is read twice is one tensor
    assert calls[1].roofline_ns == 200
    assert calls[3].roofline_ns == 10**7 + 100


def test_threads_share_arithmetic_and_caches_but_not_memory():
    calls = profile_calls(PLAN, TIMINGS, 2, PARAMETERS)
    assert calls[0].roofline_ns == 1000
    assert calls[1].roofline_ns == 100
    assert calls[3].roofline_ns == 10**7 + 100


def test_kernels_sum_their_calls(calls):
    big, dense, relu = profile_kernels(calls)
    assert [row.kernel for row in (big, dense, relu)] == ["big", "dense", "relu"]
    assert (dense.calls, dense.ms, dense.layers) == (2, 0.005, ("fc", "head"))
    assert dense.gflop_per_s == 8000 / 5000
    assert dense.roofline == 4000 / 5000
    assert sum(row.share for row in (big, dense, relu)) == pytest.approx(1)


def test_the_trace_is_one_call_after_the_other(calls):
    events = trace_events(calls)["traceEvents"]
    assert [event["ts"] for event in events] == [0, 3, 3.1, 5.1]
    assert events[0]["dur"] == 3
    assert all(event["ph"] == "X" for event in events)

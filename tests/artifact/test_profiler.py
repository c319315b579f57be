"""The C source that the profiler is linked from."""

import pytest

from pock_tvm import PockError
from pock_tvm.artifact.profiler import calls_source

TENSORS = [
    {"name": "x", "region": "arena", "offset": 64},
    {"name": "w", "region": "state", "offset": 0},
]


def plan(kernel="update", **changes):
    call = {"kernel": kernel, "reads": ["x", "w"], "writes": ["w"], "overwrites": True}
    return {"calls": [{**call, **changes}], "tensors": TENSORS}


def test_a_tensor_that_is_overwritten_is_one_argument() -> None:
    source = calls_source(plan())
    assert "return pock_kernel_update(arena + 64ull, state + 0ull);" in source
    assert "int32_t pock_kernel_update(void *, void *);" in source
    source = calls_source(plan(overwrites=False))
    assert "return pock_kernel_update(arena + 64ull, state + 0ull, state + 0ull);" in source


def test_a_name_that_is_no_name_never_becomes_c() -> None:
    with pytest.raises(PockError, match="which is no name"):
        calls_source(plan(kernel='x(); system("reboot"'))

"""Kernels run on devices behind TVM's RPC as they run here, by their own machine code."""

import numpy as np
import pytest
import rpc_fleet
import tvm
from products import product, source
from tvm import tirx

from pock_tvm.artifact.link import run_lld
from pock_tvm.errors import TuningError
from pock_tvm.targets import get_target
from pock_tvm.tuning.device import DEVICE_ERRORS, local_device, parse_tracker, tracker_devices
from pock_tvm.tuning.kernel_library import FUNCTION, kernel_library
from pock_tvm.tuning.kernel_times import time_kernels

SPEC = get_target("host")


def check(device):
    func = product(13, 21, 40)
    module = device.load(kernel_library("mine", source(13, 21, 40), SPEC))
    tensors = device.tensors(func)
    (got,) = device.results(module, func, tensors)
    x, y = (t.numpy().astype("float64") for t in tensors[:2])
    assert abs(x).max() <= 1
    np.testing.assert_allclose(got, x @ y, rtol=0, atol=2e-7 * 50)
    warm, cold = (device.seconds(module, tensors, runs=2, cold=c) for c in (False, True))
    assert 0 < warm < 1
    assert 0 < cold < 1


def test_this_machine_is_a_device():
    with local_device(1) as device:
        check(device)
        assert device.reopen()
        check(device)


def test_a_kernel_that_crashes_ends_its_session_and_nothing_else(tmp_path):
    call = tirx.Evaluate(tirx.call_extern("int32", "abort"))
    func = tirx.PrimFunc([], call).with_attr("global_symbol", FUNCTION)
    tirx.build(tvm.IRModule({FUNCTION: func}), target=SPEC.build()).write_to_file(
        str(tmp_path / "crash.o"), "o"
    )
    run_lld(["-shared", str(tmp_path / "crash.o")], tmp_path / "crash.so", SPEC.zig_target)
    with local_device(1) as device:
        module = device.load((tmp_path / "crash.so").read_bytes())
        with pytest.raises(DEVICE_ERRORS):
            module[FUNCTION]()
        assert device.reopen()
        check(device)


def test_two_devices_of_a_key_work_side_by_side(fleet):
    tracker, key = fleet
    rpc_fleet.wait_for(tracker, key, 2)
    devices = tracker_devices(tracker, key, 1)
    assert [device.name for device in devices] == [f"{key} 1", f"{key} 2"]
    for device in devices:
        check(device)
    told = []
    sources = {f"k{n}": source(8 + n, 24, 300) for n in range(12)}
    time_kernels(sources, {}, SPEC, devices, lambda *row: told.append(row), runs=40)
    assert sorted(name for name, _, _ in told) == sorted(sources)
    assert {device for _, _, device in told} == {device.name for device in devices}
    assert all(us > 0 for _, us, _ in told)
    del devices, device
    rpc_fleet.wait_for(tracker, key, 2)


def test_what_is_no_tracker(fleet):
    for text in ("", "localhost", ":9190", "host:", "host:port", "host:70000", "host:-1"):
        with pytest.raises(TuningError, match="names no tracker"):
            parse_tracker(text)
    assert parse_tracker("10.0.0.2:9190") == ("10.0.0.2", 9190)
    tracker, key = fleet
    rpc_fleet.wait_for(tracker, key, 2)
    with pytest.raises(TuningError, match=f"no free device of key 'pi'; free keys: {key}"):
        tracker_devices(tracker, "pi", 1)

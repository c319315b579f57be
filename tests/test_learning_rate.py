"""Schedules against PyTorch's, and the C program's against ours."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as theirs

from pock_tvm.artifact.link import RUNTIME
from pock_tvm.errors import UnknownNameError
from pock_tvm.learning_rate import SCHEDULES, make_schedule

PEAK, TOTAL, WARMUP = 0.3, 40, 7
LEFT = TOTAL - WARMUP


def torch_rates(scheduler_of) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], PEAK)
    scheduler = scheduler_of(optimizer)
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warmed(scheduler_of):
    def build(optimizer):
        start = theirs.LinearLR(optimizer, 1 / (WARMUP + 1), total_iters=WARMUP)
        return theirs.SequentialLR(optimizer, [start, scheduler_of(optimizer)], [WARMUP])

    return build


CASES = {
    "constant": lambda o: theirs.ConstantLR(o, 1.0),
    "linear": lambda o: theirs.LinearLR(o, 1.0, 0.0, TOTAL),
    "linear:end=0.25": lambda o: theirs.LinearLR(o, 1.0, 0.25, TOTAL),
    "cosine": lambda o: theirs.CosineAnnealingLR(o, TOTAL),
    "cosine:end=0.1": lambda o: theirs.CosineAnnealingLR(o, TOTAL, PEAK * 0.1),
    "polynomial:power=3": lambda o: theirs.PolynomialLR(o, TOTAL, 3.0),
    "step:every=9,by=0.5": lambda o: theirs.StepLR(o, 9, 0.5),
    "one-cycle": lambda o: theirs.OneCycleLR(o, PEAK, TOTAL),
    "one-cycle:rise=0.5,first=0.1,last=0.001": lambda o: theirs.OneCycleLR(
        o, PEAK, TOTAL, pct_start=0.5, div_factor=10, final_div_factor=100
    ),
    "cosine:warmup=7": warmed(lambda o: theirs.CosineAnnealingLR(o, LEFT)),
    "linear:warmup=7,end=0.5": warmed(lambda o: theirs.LinearLR(o, 1.0, 0.5, LEFT)),
    "polynomial:warmup=7": warmed(lambda o: theirs.PolynomialLR(o, LEFT, 2.0)),
    "step:every=10,warmup=7": warmed(lambda o: theirs.StepLR(o, 10, 0.1)),
    "constant:warmup=7": warmed(lambda o: theirs.ConstantLR(o, 1.0)),
}


def rates_of(reference: str, total: int = TOTAL) -> list[float]:
    schedule = make_schedule(reference)
    return [schedule.rate(PEAK, step, total) for step in range(total)]


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # SequentialLR's own
@pytest.mark.parametrize("reference", CASES)
def test_a_schedule_is_pytorchs(reference) -> None:
    # PyTorch's chainable schedulers multiply up, 40 roundings; near zero they keep what cancels
    wanted = torch_rates(CASES[reference])
    np.testing.assert_allclose(rates_of(reference), wanted, rtol=1e-12, atol=1e-15)


def test_every_schedule_has_a_case() -> None:
    assert {reference.partition(":")[0] for reference in CASES} == set(SCHEDULES)


class CSchedule(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("options", ctypes.c_double * 8))


@pytest.fixture(scope="module")
def c_rate(tmp_path_factory):
    library = tmp_path_factory.mktemp("rate") / "rate.so"
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O2", "-std=c11"]
    command += [str(RUNTIME / "pock_rate.c"), "-lm", "-o", str(library)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.pock_schedule_read.restype = ctypes.c_char_p
    loaded.pock_schedule_read.argtypes = [ctypes.POINTER(CSchedule), ctypes.c_char_p]
    loaded.pock_schedule_rate.restype = ctypes.c_double
    loaded.pock_schedule_rate.argtypes = [
        ctypes.POINTER(CSchedule),
        ctypes.c_double,
        ctypes.c_uint64,
        ctypes.c_uint64,
    ]
    return loaded


@pytest.mark.parametrize(
    "reference", [*CASES, "polynomial", "one-cycle:rise=1", "one-cycle:rise=0"]
)
@pytest.mark.parametrize("total", [1, 5, TOTAL])
def test_the_c_program_computes_the_same_to_the_last_bit_of_float32(c_rate, reference, total):
    schedule = CSchedule()
    assert c_rate.pock_schedule_read(schedule, reference.encode()) is None
    c_rates = [c_rate.pock_schedule_rate(schedule, PEAK, step, total) for step in range(total)]
    # the two libms may round their last bit of float64 differently
    wanted = rates_of(reference, total)
    np.testing.assert_array_max_ulp(np.float32(c_rates), np.float32(wanted), maxulp=1)
    np.testing.assert_allclose(c_rates, wanted, rtol=1e-14, atol=1e-17)


@pytest.mark.parametrize(
    "reference, message",
    [
        ("cosin", "unknown schedule 'cosin'; known are constant, linear, cosine"),
        ("cosine:every=3", "has no option 'every'; it has warmup, end"),
        ("cosine:warmup=1.5", "option warmup is '1.5', not a whole number"),
        ("cosine:warmup=-1", "warmup is -1; it must not be negative"),
        ("linear:end=2", r"end is 2.0; it must be in \[0, 1\]"),
        ("step", "say after how many steps the rate drops"),
        ("step:every=5,by=0", r"by is 0.0; it must be in \(0, 1\]"),
        ("polynomial:power=0", "power is 0.0; it must be above 0"),
        ("one-cycle:rise=nan", "rise is nan"),
        ("one-cycle:warmup=3", "has no option 'warmup'"),
        ("cosine:warmup", "'warmup' is not option=value"),
    ],
)
def test_what_is_refused_here_and_by_the_c_program(c_rate, reference, message) -> None:
    with pytest.raises(UnknownNameError, match=message):
        make_schedule(reference)
    assert c_rate.pock_schedule_read(CSchedule(), reference.encode()) is not None

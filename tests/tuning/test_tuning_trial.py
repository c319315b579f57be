"""A decision replaces another only where it is faster beyond the noise, and computes the same."""

import numpy as np
import pytest
from products import product

from pock_tvm.schedules.cpu.gemm import open_contraction
from pock_tvm.targets import get_target
from pock_tvm.tuning.trial import judge, same_values


class FakeDevice:
    """Takes as long as it is told: seconds by module, warm and cold, times what a round adds."""

    def __init__(self, seconds, noise=lambda count: 1.0):
        self.taken, self.noise, self.calls = seconds, noise, []

    def seconds(self, module, _tensors, *, runs, cold):
        self.calls.append((module, cold))
        return self.taken[module][cold] * self.noise(len(self.calls))


RULES, BEST, OTHER = "rules", "best so far", "candidate"


@pytest.mark.parametrize(
    "warm,cold,is_better",
    [
        (0.80, 0.80, True),
        (0.97, 0.98, True),
        (0.99, 0.995, False),  # not worth a record
        (1.00, 1.00, False),
        (0.70, 1.05, False),  # loses where operands come from memory
        (1.05, 0.70, False),
        (3.00, 3.00, False),
    ],
)
def test_what_counts_as_better(warm, cold, is_better):
    times = {RULES: (2.0, 3.0), BEST: (1.0, 2.0), OTHER: (warm, 2 * cold)}
    verdict = judge(FakeDevice(times), RULES, BEST, OTHER, [])
    assert verdict.is_better == is_better
    assert verdict.ratio == pytest.approx((warm + 2 * cold) / 3)
    assert verdict.rules_us == pytest.approx(2.5e6)
    assert verdict.us == pytest.approx(1e6 * (warm + 2 * cold) / 2)


def test_noise_is_no_gain():
    """Two of five measurements are slow by chance, those of either as often."""
    random = np.random.default_rng(0)
    times = {RULES: (1.0, 1.0), OTHER: (1.0, 1.0)}
    found = []
    for _ in range(200):
        device = FakeDevice(times, lambda _: 1 + 0.5 * (random.random() < 0.4))
        found.append(judge(device, RULES, RULES, OTHER, []).is_better)
    assert sum(found) <= 6  # 0.1² of them at the most, were a round like a coin


def test_the_order_of_a_round_alternates_and_a_hopeless_one_ends_early():
    times = {RULES: (1.0, 1.0), BEST: (1.0, 1.0), OTHER: (0.5, 0.5)}
    device = FakeDevice(times)
    judge(device, RULES, BEST, OTHER, [])
    assert len(device.calls) == (9 + 9) * 3 * 2
    first = [module for module, _ in device.calls[:6:2]]
    assert [module for module, _ in device.calls[6:12:2]] == first[::-1]
    slow = FakeDevice({**times, OTHER: (1.2, 1.2)})
    judge(slow, RULES, BEST, OTHER, [])
    assert len(slow.calls) == 3 * 3 * 2


def test_values_are_compared_bit_for_bit_unless_sums_are_in_parts():
    c = open_contraction(product(16, 16, 1000), get_target("host"))
    one = np.linspace(-20, 20, 256, dtype="float32").reshape(16, 16)
    near, far = one + np.float32(1e-5), one + np.float32(1e-3)
    assert same_values([one], [one.copy()], c, exactly=True)
    assert not same_values([one], [near], c, exactly=True)
    assert same_values([one], [near], c, exactly=False)
    assert not same_values([one], [far], c, exactly=False)
    assert not same_values([one], [np.full_like(one, np.nan)], c, exactly=False)

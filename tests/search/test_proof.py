"""The schemes by which a predicted order is held against the real one."""

import numpy as np

from pock_tvm.search.proof import spread


def test_schemes_are_as_many_as_asked_for_though_most_are_alike():
    predicted = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 10.0])
    assert spread(predicted, 4) == [0, 1, 5, 2]


def test_schemes_stand_from_least_to_greatest():
    predicted = np.random.default_rng(0).permutation(101) / 100
    assert predicted[spread(predicted, 5)].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_no_scheme_is_picked_twice():
    assert sorted(spread(np.zeros(3), 9)) == [0, 1, 2]

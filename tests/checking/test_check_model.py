"""A right model passes; a wrong rule, a wrong scheme and a wrong step are each found out."""

import numpy as np
import pytest
import small_net

from pock_tvm.checking import check_model, scheme
from pock_tvm.checking.finite_differences import directional_error
from pock_tvm.frontend import load_model
from pock_tvm.relay_passes.vjp.registry import _RULES
from pock_tvm.update import Update
from pock_tvm.update.channels import ChannelSlice


@pytest.fixture(scope="module")
def model():
    return load_model("small_net:build", small_net.BATCH)


def error_of(derivative, directions=4):
    at = np.linspace(0.5, 2.0, 7)
    generator = np.random.default_rng(0)
    return directional_error(
        lambda x: float(np.sin(x).sum()), at, derivative, directions, generator
    )


def test_central_differences_tell_right_from_wrong():
    at = np.linspace(0.5, 2.0, 7)
    error, right = error_of(np.cos(at))
    assert right
    assert error < 1e-8
    for wrong in (np.cos(at) * (1 + 1e-4), -np.cos(at), np.cos(at) + 1e-3, np.zeros(7)):
        assert not error_of(wrong)[1]
    missing = np.cos(at)
    missing[3] = 0
    assert not error_of(missing)[1]


def test_a_kink_within_the_step_is_not_an_error():
    at = np.array([3e-5, 1.0, -1.0])
    gradient = np.array([1.0, 1.0, 0.0])
    generator = np.random.default_rng(0)
    loss = lambda x: float(np.maximum(x, 0).sum())  # noqa: E731 (a relu)
    assert directional_error(loss, at, gradient, 4, generator)[1]


def test_a_wrong_rule_is_found(model, monkeypatch):
    from tvm.relax import const
    from tvm.relax.op import multiply

    right = _RULES["relax.clip"]

    def wrong(ct, call, out):
        thunk, *others = right(ct, call, out)
        scale = const(1.01, str(out.ty.dtype))
        return (lambda: multiply(thunk(), scale), *others)

    monkeypatch.setitem(_RULES, "relax.clip", wrong)
    report = check_model(model, update="features.pointwise.bias,features.depthwise.bias")
    verdicts = {t.name: t.verdict for t in report.tensors}
    assert "finite differences disagree" in verdicts["features.depthwise.bias"]
    assert verdicts["features.pointwise.bias"] == "ok"  # behind the activation
    assert verdicts["features.stem.weight"] == "ok"  # frozen


CHANNELS = Update(channels={"w": ChannelSlice(axis=1, channels=(1, 3), of=4)}, whole=("b",))
BEFORE = np.ones((2, 4), "float32")


@pytest.mark.parametrize(
    "name, changed, problems",
    [
        ("w", np.s_[:, [1, 3]], []),
        ("w", np.s_[:, 1], []),
        ("w", np.s_[:, [0, 1]], ["2 values changed that are frozen"]),
        ("w", np.s_[:0], ["nothing changed"]),
        ("b", np.s_[1], []),
        ("frozen", np.s_[:0], []),
        ("frozen", np.s_[0, 0], ["1 values changed that are frozen"]),
    ],
)
def test_bits_are_compared_with_the_scheme(name, changed, problems):
    after = BEFORE.copy()
    after[changed] = np.nextafter(after[changed], 2)
    allowed = scheme.may_change(name, BEFORE.shape, CHANNELS, ())
    gradient = None if name == "frozen" else np.ones(BEFORE.shape)
    assert scheme.change_problems(BEFORE, after, allowed, gradient) == problems


def test_a_step_of_the_wrong_length_is_found():
    wanted = BEFORE.astype("float64") - 0.01 * np.arange(8).reshape(2, 4)
    gradient = np.arange(8.0).reshape(2, 4)
    exact = wanted.astype("float32")
    assert scheme.step_error(BEFORE, exact, wanted, gradient)[1]
    assert not scheme.step_error(BEFORE, BEFORE, wanted, gradient)[1]
    assert not scheme.step_error(BEFORE, exact - np.float32(1e-3), wanted, gradient)[1]

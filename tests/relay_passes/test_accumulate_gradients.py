"""AccumulateGradients: sums while it accumulates, means for the update."""

import numpy as np
import pytest
import tvm
from pass_checks import main_of, run
from tvm import relax
from tvm.relax.op import multiply, sum

from pock_tvm.relay_passes.accumulate_gradients import AccumulateGradients

RNG = np.random.default_rng(0)
W, X, HELD = RNG.standard_normal(3), RNG.standard_normal(3), RNG.standard_normal(3)
PARAMETERS = ["w", "x", "accumulator.w", "accumulation.loss", "accumulation.count"]


def gradient_graph(bb, w, x):
    """loss = Σ w x, whose gradient by w is the parameter x; and a running statistic."""
    loss = bb.emit(sum(bb.emit(multiply(w, x))))
    return loss, bb.emit(multiply(x, x)), bb.emit(multiply(x, relax.const(1.0, "float64")))


def before() -> tvm.IRModule:
    mod = main_of(gradient_graph, {"w": (3,), "x": (3,)})
    mod["main"] = mod["main"].with_attr("running_statistics", ["norm.running_var"])
    return mod


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("update", [False, True])
def test_the_values(update, count) -> None:
    original = before()
    untouched = original.clone()
    after = AccumulateGradients(["w"], update=update)(original)
    tvm.ir.assert_structural_equal(original, untouched)
    relax.analysis.well_formed(after)
    assert [p.name for p in after["main"].params] == PARAMETERS
    # what stands in the accumulators counts for nothing unless something was counted
    held, held_loss = (HELD, 0.5) if count else (np.full(3, np.nan), np.nan)
    results = run(after, W, X, held, np.float64(held_loss), np.int32(count))
    sums = [np.dot(W, X) + (held_loss if count else 0), X + (HELD if count else 0)]
    if update:
        assert list(after["main"].attrs["running_statistics"]) == [
            "norm.running_var",
            PARAMETERS[-1],
        ]
        wanted = [sums[0] / (count + 1), X * X, 0, sums[1] / (count + 1)]
    else:
        assert list(after["main"].attrs["updates"]) == ["norm.running_var", *PARAMETERS[2:]]
        wanted = [np.dot(W, X), X * X, sums[1], sums[0], count + 1]
    for got, value in zip(results, wanted, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-14)


def test_a_gradient_without_a_binding_and_one_that_two_parameters_share() -> None:
    def build(bb, w, v, x):
        loss = bb.emit(sum(bb.emit(multiply(bb.emit(multiply(w, v)), x))))
        shared = bb.emit(multiply(x, x))
        return loss, x, shared, shared

    mod = main_of(build, {"w": (3,), "v": (3,), "x": (3,)})
    after = AccumulateGradients(["w", "v", "x"], update=False)(mod)
    zeros = [np.zeros(3)] * 3
    results = run(after, W, W, X, *zeros, np.float64(0), np.int32(1))
    for got, wanted in zip(results[1:4], (X, X * X, X * X), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-14)


def test_a_parameter_that_only_an_update_reads_is_no_input_of_the_accumulation() -> None:
    def build(bb, **values):
        w, x = values["w"], values["x"]
        return bb.emit(sum(bb.emit(multiply(w, x)))), bb.emit(multiply(x, x))

    mod = main_of(build, {"w": (3,), "w[channels]": (3,), "x": (3,)})
    names = [p.name for p in AccumulateGradients(["w[channels]"], update=False)(mod)["main"].params]
    assert names == ["w", "x", "accumulator.w[channels]", *PARAMETERS[3:]]
    names = [p.name for p in AccumulateGradients(["w[channels]"], update=True)(mod)["main"].params]
    assert names[:3] == ["w", "w[channels]", "x"]

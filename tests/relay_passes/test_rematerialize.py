"""Tensors that are computed again: what is chosen, what is refused, what it costs."""

from itertools import pairwise

import pytest
from test_planning import call, random_step, step_of

from pock_tvm.relay_passes.rematerialize import DEEPEST_CHAIN, tradeoffs
from pock_tvm.relay_passes.step import peak_live_bytes


def kernels(step) -> list[str]:
    return [one.kernel for one in step.calls]


def unit_costs(step) -> dict[str, float]:
    return {one.kernel: 1.0 for one in step.calls}


SIZES = {"x": 64, "y": 64, "r": 6400, "big": 6400, "t": 64, "z": 64}


def test_a_waiting_tensor_is_made_again_right_before_its_reader() -> None:
    step = step_of(
        [
            call("relu", "x", "r"),
            call("forward", "r", "t"),
            call("wide", "t", "big"),
            call("narrow", "big", "z"),
            call("grad", "r z", "y"),
        ],
        SIZES,
    )
    least = tradeoffs(step, unit_costs(step))[-1]
    assert kernels(least.step) == ["relu", "forward", "wide", "narrow", "relu", "grad"]
    assert least.step.calls[-1].reads == ("r.again1", "z")
    assert least.peak_bytes == peak_live_bytes(least.step) < peak_live_bytes(step)
    assert least.repeated == 1.0


def test_a_chain_is_repeated_from_what_is_at_hand() -> None:
    step = step_of(
        [
            call("a", "x", "z"),
            call("b", "z", "r"),
            call("forward", "r", "t"),
            call("wide", "t", "big"),
            call("narrow", "big", "t2"),
            call("grad", "r t2", "y"),
        ],
        {**SIZES, "t2": 64},
    )
    least = tradeoffs(step, unit_costs(step))[-1]
    assert kernels(least.step)[-3:] == ["a", "b", "grad"]
    assert least.step.calls[-2].reads == ("z.again1",)


def test_a_weight_that_has_learned_since_is_not_read_again() -> None:
    step = step_of(
        [
            call("layer", "x w", "r"),
            call("forward", "r", "t"),
            call("wide", "t", "big"),
            call("update", "w big", "w"),
            call("grad", "r t", "y"),
        ],
        {**SIZES, "w": 64},
        state=("w",),
    )
    assert [choice.step for choice in tradeoffs(step, unit_costs(step))] == [step]


def test_what_a_weight_made_is_made_again_before_the_weight_learns() -> None:
    step = step_of(
        [
            call("layer", "x w", "r"),
            call("forward", "r", "t"),
            call("wide", "t", "big"),
            call("narrow", "big", "z"),
            call("update", "w z", "w"),
            call("grad", "r z", "y"),
        ],
        {**SIZES, "w": 64},
        state=("w",),
    )
    least = tradeoffs(step, unit_costs(step))[-1]
    assert kernels(least.step)[-4:] == ["narrow", "layer", "update", "grad"]
    assert least.step.calls[-1].reads == ("r.again1", "z")
    assert least.peak_bytes == peak_live_bytes(least.step) < peak_live_bytes(step)


def test_the_cheapest_way_goes_first() -> None:
    step = step_of(
        [
            call("dear", "x", "r"),
            call("cheap", "x", "s"),
            call("forward", "r s", "t"),
            call("wide", "t", "big"),
            call("narrow", "big", "z"),
            call("grad", "s z", "u"),
            call("grad", "r u", "y"),
        ],
        {**SIZES, "s": 6400, "u": 64},
    )
    choices = tradeoffs(step, {**unit_costs(step), "dear": 9.0})
    assert choices[1].repeated == 1.0


def test_long_chains_are_left_alone() -> None:
    links = [call(f"k{i}", f"t{i}", f"t{i + 1}") for i in range(DEEPEST_CHAIN + 1)]
    last = f"t{DEEPEST_CHAIN + 1}"
    step = step_of(
        [
            call("first", "x", "t0"),
            *links,
            call("wide", last, "big"),
            call("narrow", "big", "z"),
            call("grad", f"{last} z", "y"),
        ],
        {**SIZES, "t0": 64, **{f"t{i + 1}": 64 for i in range(DEEPEST_CHAIN)}, last: 6400},
    )
    assert len(tradeoffs(step, unit_costs(step))) == 1


@pytest.mark.parametrize("seed", range(10))
def test_every_point_needs_less_and_costs_more(seed) -> None:
    step = random_step(seed)
    choices = tradeoffs(step, unit_costs(step))
    assert choices[0].step == step
    for before, after in pairwise(choices):
        assert after.peak_bytes == peak_live_bytes(after.step) < before.peak_bytes
        assert after.repeated > before.repeated
        assert after.repeated == len(after.step.calls) - len(step.calls)

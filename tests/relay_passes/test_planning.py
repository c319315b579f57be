"""Ordering and placement on plain data: life times, hazards, overlaps, bounds."""

import random

import pytest

from pock_tvm.relay_passes import plan_arena as plan_arena_module
from pock_tvm.relay_passes.plan_arena import plan_arena
from pock_tvm.relay_passes.reorder_for_memory import dependencies, reorder_for_memory
from pock_tvm.relay_passes.step import (
    KernelCall,
    Step,
    Tensor,
    align,
    live_bytes,
    live_intervals,
    peak_live_bytes,
)


def step_of(calls, sizes, inputs=("x",), outputs=("y",), state=()) -> Step:
    tensors = {
        name: Tensor(name, (size // 4,), "float32", "state" if name in state else "arena")
        for name, size in sizes.items()
    }
    return Step("train_step", tensors, tuple(calls), tuple(inputs), tuple(outputs))


def call(kernel, reads, writes):
    return KernelCall(kernel, tuple(reads.split()), tuple(writes.split()))


def check_no_overlap(step: Step, offsets) -> None:
    intervals = list(live_intervals(step).items())
    for i, (a, (a_start, a_end)) in enumerate(intervals):
        for b, (b_start, b_end) in intervals[:i]:
            if a_start <= b_end and b_start <= a_end:
                a_low, b_low = offsets[a], offsets[b]
                a_high = a_low + step.tensors[a].bytes
                b_high = b_low + step.tensors[b].bytes
                assert a_high <= b_low or b_high <= a_low, (a, b)


def random_step(seed: int, calls: int = 60) -> Step:
    """Return a step in which each call reads up to three earlier tensors, some of them late."""
    rng = random.Random(seed)
    sizes, made, steps = {"x": 4096}, ["x"], []
    for i in range(calls):
        name = f"t{i}"
        sizes[name] = 4 * rng.choice([1, 16, 250, 1024, 5000])
        reads = {made[-1], *rng.sample(made, min(len(made), rng.randint(0, 2)))}
        steps.append(KernelCall(f"k{i}", tuple(sorted(reads)), (name,)))
        made.append(name)
    return step_of(steps, sizes, outputs=(made[-1],))


def test_sizes_are_padded_to_cache_lines() -> None:
    assert [align(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]
    assert Tensor("b", (3,), "bool").bytes == 3
    assert Tensor("s", (), "float64").bytes == 8


def test_life_times() -> None:
    step = step_of(
        [call("a", "x", "t"), call("b", "t", "u"), call("c", "u x", "y")],
        {"x": 64, "t": 64, "u": 64, "y": 64},
    )
    assert live_intervals(step) == {"x": (0, 2), "t": (0, 1), "u": (1, 2), "y": (2, 2)}
    assert live_bytes(step) == [128, 192, 192]


def test_an_output_lives_to_the_end() -> None:
    step = step_of(
        [call("a", "x", "y"), call("b", "x", "t"), call("c", "t", "u")],
        {"x": 64, "t": 64, "u": 64, "y": 64},
    )
    assert live_intervals(step)["y"] == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_random_steps_are_placed_without_overlap(seed) -> None:
    step = reorder_for_memory(random_step(seed))
    plan = plan_arena(step)
    check_no_overlap(step, plan.offsets)
    assert all(offset % 64 == 0 for offset in plan.offsets.values())
    assert plan.lower_bound_bytes == peak_live_bytes(step) <= plan.arena_bytes
    assert plan.arena_bytes <= 1.02 * plan.lower_bound_bytes


def test_fixed_offsets_are_kept() -> None:
    step = random_step(3)
    fixed = {"x": 8192, step.outputs[0]: 64}
    plan = plan_arena(step, fixed)
    assert {name: plan.offsets[name] for name in fixed} == fixed
    check_no_overlap(step, plan.offsets)


@pytest.mark.parametrize("seed", range(20))
def test_reordering_never_raises_the_peak_and_keeps_dependencies(seed) -> None:
    step = random_step(seed)
    after = reorder_for_memory(step)
    assert sorted(c.kernel for c in after.calls) == sorted(c.kernel for c in step.calls)
    assert peak_live_bytes(after) <= peak_live_bytes(step)
    seen = set(step.inputs)
    for one in after.calls:
        assert set(one.reads) <= seen
        seen.update(one.writes)


def test_an_update_frees_its_gradient_before_the_next_is_made() -> None:
    sizes = {"x": 64, "g1": 6400, "g2": 6400, "w1": 6400, "w2": 6400, "y": 64}
    step = step_of(
        [
            call("grad", "x", "g1"),
            call("grad", "x", "g2"),
            call("loss", "x", "y"),
            call("update", "w1 g1", "w1"),
            call("update", "w2 g2", "w2"),
        ],
        sizes,
        state=("w1", "w2"),
    )
    after = reorder_for_memory(step)
    assert peak_live_bytes(step) - peak_live_bytes(after) == 6400


def test_a_weight_is_overwritten_after_its_last_reader() -> None:
    sizes = {"x": 64, "g": 64, "t": 64, "w": 64, "y": 64}
    step = step_of(
        [
            call("forward", "x w", "t"),
            call("grad", "t", "g"),
            call("data_grad", "g w", "y"),
            call("update", "w g", "w"),
        ],
        sizes,
        state=("w",),
    )
    assert dependencies(step)[3] == {0, 1, 2}
    names = [c.kernel for c in reorder_for_memory(step).calls]
    assert names.index("update") > names.index("data_grad")


def test_what_reads_weights_alone_comes_right_before_its_reader() -> None:
    sizes = {"x": 6400, "s": 640, "t": 6400, "g": 640, "w": 64, "y": 6400}
    step = step_of(
        [
            call("slice", "w", "s"),
            call("forward", "x", "t"),
            call("more", "t", "y"),
            call("grad", "y", "g"),
            call("update", "w s g", "w"),
        ],
        sizes,
        state=("w",),
    )
    names = [c.kernel for c in reorder_for_memory(step).calls]
    assert names == ["forward", "more", "grad", "slice", "update"]


def test_the_search_closes_a_gap_that_every_order_leaves() -> None:
    """Blocks of which best fit, in each of its orders, needs more than are ever live at once."""
    lives = {"a": (5, 4, 4), "b": (4, 1, 2), "c": (2, 5, 5), "d": (5, 2, 4)}
    lives |= {"e": (4, 3, 4), "f": (4, 0, 3), "g": (4, 1, 1), "h": (3, 3, 3)}
    tensors = {n: Tensor(n, (64 * size,), "uint8") for n, (size, _, _) in lives.items()}
    calls = []
    for time in range(6):
        at = [n for n, (_, start, end) in lives.items() if start <= time <= end]
        made = tuple(n for n in at if lives[n][1] == time)
        calls.append(KernelCall("k", tuple(n for n in at if n not in made), made))
    step = Step("s", tensors, tuple(calls), (), ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_arena_module, "SEARCH_ROUNDS", 0)
        assert plan_arena(step).arena_bytes > peak_live_bytes(step)
    assert plan_arena(step).arena_bytes == peak_live_bytes(step)

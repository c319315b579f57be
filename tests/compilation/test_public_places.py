"""Small inputs and outputs stand together at the bottom of every entry point's arena."""

from pock_tvm.compilation.plan import SMALL_PUBLIC, small_public_places
from pock_tvm.relay_passes.plan_arena import plan_arena
from pock_tvm.relay_passes.step import KernelCall, Step, Tensor, peak_live_bytes


def step_of(name, sizes, calls, inputs, outputs) -> Step:
    tensors = {n: Tensor(n, (size,), "uint8") for n, size in sizes.items()}
    calls = [KernelCall("k", tuple(reads.split()), (new,)) for reads, new in calls]
    return Step(name, tensors, tuple(calls), inputs, outputs)


SIZES = {"x": 64_000, "labels": 32, "loss": 4, "t": 32_000, "u": 32_000}
TRAIN = step_of(
    "train_step", SIZES, [("x", "t"), ("t", "u"), ("u labels", "loss")], ("x", "labels"), ("loss",)
)
PREDICT = step_of("predict", {"x": 64_000, "y": 90_000}, [("x", "y")], ("x",), ("y",))


def test_they_stand_side_by_side_and_leave_large_ones_to_the_plan() -> None:
    assert small_public_places([TRAIN, PREDICT]) == {"loss": 0, "labels": 64}


def test_what_only_later_entry_points_have_is_left_to_their_plans() -> None:
    assert small_public_places([PREDICT, TRAIN]) == {}


def test_none_is_placed_where_its_padding_would_be_seen() -> None:
    tiny = step_of("predict", {"x": 640, "y": 4}, [("x", "y")], ("x",), ("y",))
    assert small_public_places([tiny]) == {}


def test_another_entry_point_gets_its_memory_in_one_piece() -> None:
    """Alone, the first step may leave its loss where the second wants the bytes around it."""
    evaluate = step_of(
        "evaluate",
        {**SIZES, "z": 96_000},
        [("x", "z"), ("z labels", "loss")],
        ("x", "labels"),
        ("loss",),
    )
    bound = peak_live_bytes(evaluate)
    places = small_public_places([TRAIN, evaluate])
    assert plan_arena(evaluate, places).arena_bytes <= bound * (1 + SMALL_PUBLIC)
    behind_t_and_u = {"x": 0, "loss": 96_000}
    assert plan_arena(evaluate, behind_t_and_u).arena_bytes > bound * 1.03

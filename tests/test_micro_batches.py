"""A budget too small for repetition: the step takes its batch in parts, and learns the same."""

import itertools

import numpy as np
import pytest
import small_net

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.compilation.micro_batches import POINTS, cheapest, spaced
from pock_tvm.compilation.plan import Price
from pock_tvm.errors import MemoryBudgetError
from pock_tvm.frontend import load_model

BATCH, RATE = 8, 0.05


def compiled(folder, budget=None, **options):
    model = load_model("small_net:build", BATCH)
    return pock_tvm.compile(model, folder, memory_budget=budget, **options).report()


def draw(seed):
    generator = np.random.default_rng(seed)
    pixels = generator.normal(size=(BATCH, 1, 8, 8)).astype("float32")
    return pixels, generator.integers(0, small_net.CLASSES, BATCH)


def learned(folder, labels_of=lambda labels: labels):
    with Trainer(folder) as trainer:
        losses = []
        for seed in range(4):
            pixels, labels = draw(seed)
            losses.append(trainer.step(pixels, labels_of(labels), RATE))
        names = [t.name for t in trainer.description.tensors if t.region == "state"]
        return losses, {name: trainer.tensor(name).copy() for name in names}


def with_ignored(labels):
    """All labels of one part and one of another do not count."""
    return np.where(np.arange(BATCH) < 5, labels, -100)


SOME_CHANNELS = """
name = "some channels"
trainable = ["classifier.*", "features.stem.weight"]

[[update]]
what = "weight"
match = ["features.pointwise.*"]
channels = "1/2"
"""


@pytest.mark.parametrize("update", ["full", SOME_CHANNELS], ids=["full", "channels"])
def test_a_budget_below_repetition_gives_the_same_steps(tmp_path, update):
    if update != "full":
        (tmp_path / "some.toml").write_text(update)
        update = str(tmp_path / "some.toml")
    whole = compiled(tmp_path / "whole", update=update)
    least = whole["memory_frontier"][-1]["arena_bytes"]
    budget = least - 1024
    report = compiled(tmp_path / "parts", budget, update=update)
    assert whole["micro_batches"] == 1 < report["micro_batches"]
    assert report["arena_bytes"] <= budget
    for labels_of in (lambda labels: labels, with_ignored):
        losses, weights = learned(tmp_path / "whole", labels_of)
        parts_losses, parts_weights = learned(tmp_path / "parts", labels_of)
        # A gradient is a sum over 8 samples of 64 pixels; in another order it is off by at most
        # 512 half units of 1.2e-7 of the sum of absolute values, which here is below 1; four
        # steps at this rate add up to that, and a loss follows its weights.
        bound = 512 * 6e-8
        np.testing.assert_allclose(parts_losses, losses, rtol=bound)
        for name, value in weights.items():
            np.testing.assert_allclose(
                parts_weights[name], value, rtol=0, atol=4 * RATE * bound, err_msg=name
            )


def test_an_impossible_budget_names_the_least_bytes(tmp_path):
    with pytest.raises(MemoryBudgetError, match="micro-batches within the batch") as refused:
        compiled(tmp_path / "net", 5000)
    least = refused.value.least_bytes
    assert f"{least:,} bytes at the least" in str(refused.value)
    assert not (tmp_path / "net").exists()


def test_batch_statistics_take_a_whole_batch(tmp_path):
    with pytest.raises(MemoryBudgetError, match=r"no micro-batches .* batch statistics"):
        compiled(tmp_path / "net", 5000, batch_norm="train")


def test_the_frontier_has_every_number_of_parts(tmp_path):
    report = compiled(tmp_path / "net", explore_memory=True)
    assert report["micro_batches"] == 1
    frontier = report["memory_frontier"]
    assert {point["micro_batches"] for point in frontier} > {1}
    for before, after in itertools.pairwise(frontier):
        assert after["arena_bytes"] < before["arena_bytes"]
        assert after["recomputed_share"] >= before["recomputed_share"]
    budget = frontier[-1]["arena_bytes"] * 21 // 20  # of the largest live set; a plan may need more
    assert compiled(tmp_path / "least", budget)["micro_batches"] > 1


def test_a_price_that_another_beats_is_left_out():
    points = [Price(100, 5.0), Price(60, 7.0), Price(50, 6.0, 2), Price(50, 8.0), Price(40, 9.0)]
    assert cheapest(points) == (points[0], points[2], points[4])


def test_points_that_hardly_differ_are_left_out():
    frontier = [Price(total, 1e6 - total) for total in range(100_000, 50_000, -7)]
    chosen = frontier[1234]
    points = spaced(frontier, chosen)
    assert (points[0], points[-1]) == (frontier[0], frontier[-1])
    assert chosen in points
    assert POINTS - 2 <= len(points) <= POINTS + 2
    assert spaced(frontier[:1], frontier[0]) == (frontier[0],)

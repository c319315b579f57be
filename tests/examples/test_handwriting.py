import contextlib
import io
import json

import numpy as np
import pytest

from examples import handwriting
from examples.digits import two_writers


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def story(output):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        handwriting.main(["--fast", "--json", "--output", str(output)])
    return json.loads(printed.getvalue())


def runs_of(story, scheme):
    return {run["system"]: run for run in story["runs"] if run["scheme"] == scheme}


def test_pretraining_learns_the_first_writer(story):
    assert story["first_writer"] > 0.85


def test_the_new_place_confuses_the_net(story):
    assert story["before"] < 0.2
    assert story["new_hand"] < story["first_writer"] - 0.3


@pytest.mark.parametrize("scheme", ["sparse", "full"])
def test_learning_on_the_spot_helps(story, scheme):
    for run in runs_of(story, scheme).values():
        assert run["curve"][0][1] == pytest.approx(story["before"])
        assert run["accuracy"] > story["before"] + 0.15


def test_sparse_writes_less_than_full(story):
    sparse, full = runs_of(story, "sparse"), runs_of(story, "full")
    assert sparse["pock"]["transient_bytes"] < 0.5 * full["pock"]["transient_bytes"]
    assert sparse["pock"]["state_bytes"] < 0.5 * full["pock"]["state_bytes"]
    for scheme in (sparse, full):
        assert scheme["pock"]["transient_bytes"] < scheme["PyTorch"]["transient_bytes"]


def test_losses_are_pytorchs(story):
    # A logit is a sum of some hundred float32 products through five layers, each rounded by 6e-8 at
    # most: below 1e-6 when the errors wander. Four AdamW steps carry that on.
    assert story["loss_difference_first_step"] < 1e-6
    assert story["loss_difference_five_steps"] < 1e-5


def test_state_is_weights_and_two_moments(story):
    for scheme in ("sparse", "full"):
        run = runs_of(story, scheme)["pock"]
        assert run["state_bytes"] == pytest.approx(12 * run["parameters"], rel=0.05)


def test_a_picture_is_drawn(story, output):
    assert (output / "handwriting.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_says_what_was_found(story, capsys):
    runs = [handwriting.Run(**run) for run in story["runs"]]
    known = {key: value for key, value in story.items() if not key.startswith("loss_difference")}
    handwriting.print_table(handwriting.Story(**{**known, "runs": runs}))
    printed = capsys.readouterr().out
    for run in runs:
        assert f"{run.accuracy:.1%}" in printed
        assert f"{run.transient_bytes / 1024:,.0f}" in printed


def test_writers_share_no_scan_and_follow_the_seed():
    first, second = two_writers(3)
    again, _ = two_writers(3)
    other, _ = two_writers(4)
    assert np.array_equal(first.train.pictures, again.train.pictures)
    assert not np.array_equal(first.train.labels, other.train.labels)
    sizes = [len(s.labels) for w in (first, second) for s in (w.train, w.test)]
    assert sizes == [1000, 297, 250, 250]


def test_a_rate_that_diverges_is_not_chosen():
    class Learner:
        rate = 0.0

        def reset(self):
            self.rate = 0.0

        def step(self, batch, rate):
            self.rate = max(self.rate, rate)
            if rate > 0.02:
                raise handwriting.DivergedError("the loss is nan")
            return 1.0

        def evaluate(self, samples):
            return 1.0 / self.rate, 0.0

    _, second = two_writers(0)
    rate = handwriting.choose_rate(Learner(), second.train, handwriting.Settings(epochs=1), seed=0)
    assert rate == 0.01

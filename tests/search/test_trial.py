"""The trial of the best planned schemes on held-out samples."""

import math
from dataclasses import dataclass, replace

from bars_net import small_model

from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.search.settings import SearchSettings
from pock_tvm.search.space import Choice, Space
from pock_tvm.search.trial import mean_loss, try_finalists

SETTINGS = SearchSettings(learning_rate=1.0, rates=(0.1, 1.0), seeds=2, tried=3, finalists=2)


def test_a_rate_at_which_one_run_diverges_is_the_last_to_be_taken():
    runs = [{"loss": 0.5}, {"loss": 0.7}]
    assert mean_loss(runs) == 0.6
    assert math.isinf(mean_loss([*runs, {"loss": None, "diverged": True}]))
    assert math.isinf(mean_loss([{"error": "the worker died"}]))


@dataclass(frozen=True)
class Selected:
    """The part of a selection that a trial reads."""

    finalists: tuple[Choice, ...]


class FakeStudy:
    """Knows what every run would come to: the mean loss by number of biases and rate."""

    def __init__(self, losses, settings=SETTINGS, luck=lambda biases, seed: (-1) ** seed * 0.3):
        self.settings, self.losses, self.luck = settings, losses, luck
        self.space = Space.of(parameters_of(small_model()))
        self.workspace = self
        self.measured = set()

    def data(self, name):
        return name

    def masked_run(self, scheme, **options):
        self.measured.add((options["train"], options["measure"]))
        biases = sum(name.endswith("bias") and "head" not in name for name in scheme.trainable)
        return {"biases": biases, **options}

    def do(self, stage, tasks):
        assert stage == "trial"
        results = {}
        for key, task in tasks.items():
            loss = self.losses[task["biases"], task["learning_rate"]]
            luck = self.luck(task["biases"], task["seed"])
            results[key] = {"loss": None if loss is None else loss + luck}
        return results


def test_the_best_on_held_out_samples_at_its_best_rate_are_the_finalists():
    losses = {
        (1, 0.1): 0.9,
        (1, 1.0): 0.8,
        (2, 0.1): 0.5,
        (2, 1.0): None,
        (3, 0.1): 2,
        (3, 1.0): 0.6,
    }
    study = FakeStudy(losses)
    choices = [replace(study.space.nothing, biases=k) for k in (1, 2, 3)]
    found = try_finalists(study, Selected(tuple(choices)))
    assert [choice.biases for choice in found.finalists] == [2, 3]
    assert study.measured == {("train", "held_out")}


def test_a_scheme_that_two_orders_favour_has_to_stand_the_second_round():
    losses = {(k, 1.0): float(k) for k in (1, 2, 3, 4)}
    settings = replace(SETTINGS, rates=(1.0,), finalists=1, proof_seeds=5)
    study = FakeStudy(losses, settings, luck=lambda biases, seed: 9.0 * (biases == 1 < seed))
    choices = tuple(replace(study.space.nothing, biases=k) for k in (1, 2, 3, 4))
    assert [c.biases for c in try_finalists(study, Selected(choices)).finalists] == [2]


def test_without_a_trial_the_best_by_prediction_stay():
    study = FakeStudy({}, replace(SETTINGS, tried=1, finalists=1))
    choices = tuple(replace(study.space.nothing, biases=k) for k in (1, 2))
    assert try_finalists(study, Selected(choices)).finalists == choices[:1]

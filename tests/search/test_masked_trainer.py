"""What is simulated under a mask is what is compiled."""

from fractions import Fraction

import numpy as np
import pytest
from bars_net import LABELS, PICTURES, small_model

import pock_tvm
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.errors import UnknownNameError, UnsupportedModelError
from pock_tvm.search.masked_trainer import MaskedTrainer
from pock_tvm.search.space import Choice, Space
from pock_tvm.update import resolve

STEPS, RATE = 12, 3e-3


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    model = small_model()
    folder = tmp_path_factory.mktemp("full") / "art"
    pock_tvm.compile(model, folder, optimizer="adamw")
    return model, folder


def _pruned(model, scheme, folder):
    pock_tvm.compile(model, folder, update=scheme, optimizer="adamw")
    with pock_tvm.Trainer(folder, threads=1) as trainer:
        losses = trainer.fit(PICTURES, LABELS, steps=STEPS, learning_rate=RATE, seed=4)
        return losses, {n: trainer.tensor(n) for n in model.parameters if n not in model.buffers}


def test_a_mask_gives_the_losses_and_weights_of_the_pruned_artifact(everything, tmp_path):
    model, folder = everything
    parameters = parameters_of(model)
    space = Space.of(parameters)
    # a share of a convolution, of a depthwise one and of a pointwise one, and two biases
    choice = Choice(2, (2, 3, 1, 4)[: len(space.weights)])
    scheme = space.scheme(choice)
    mask = resolve(scheme, parameters, model.parameters).describe()
    assert {done["kind"] for done in mask.values()} == {"whole", "channels"}
    losses, weights = _pruned(model, scheme, tmp_path / "pruned")
    with MaskedTrainer(folder, threads=1) as trainer:
        for _ in range(2):  # a second run begins where the first did
            trainer.restart(mask)
            again = trainer.fit(PICTURES, LABELS, steps=STEPS, learning_rate=RATE, seed=4)
            np.testing.assert_allclose(again, losses, rtol=1e-6, atol=1e-6)
        for name, weight in weights.items():
            np.testing.assert_allclose(trainer.tensor(name), weight, rtol=1e-4, atol=1e-5)
        trainer.restart()
        free = trainer.fit(PICTURES, LABELS, steps=STEPS, learning_rate=RATE, seed=4)
    assert np.abs(np.subtract(free, losses)).max() > 1e-3  # the mask does something


def test_what_a_mask_leaves_out_keeps_its_bits(everything):
    model, folder = everything
    scheme = Space.of(parameters_of(model)).scheme(Choice(0, (0, 0, 2, 0)))
    mask = resolve(scheme, parameters_of(model), model.parameters).describe()
    with MaskedTrainer(folder, threads=1) as trainer:
        trainer.restart(mask)
        trainer.fit(PICTURES, LABELS, steps=3, learning_rate=RATE)
        for name, value in model.parameters.items():
            if name in model.buffers or mask.get(name, {}).get("kind") == "whole":
                continue
            learned = np.nonzero(trainer.tensor(name) != value)
            if name not in mask:
                assert not learned[0].size
            else:
                assert set(learned[mask[name]["axis"]]) == set(mask[name]["channels"])


def test_a_mask_of_what_does_not_learn_is_refused(everything, tmp_path):
    _, folder = everything
    with (
        MaskedTrainer(folder, threads=1) as trainer,
        pytest.raises(UnknownNameError, match=r"^nothing\.weight does not learn"),
    ):
        trainer.restart({"nothing.weight": {"kind": "whole"}})


def test_an_optimizer_that_mixes_values_is_refused(tmp_path):
    pock_tvm.compile(small_model(), tmp_path / "art", optimizer="adafactor", update="head")
    with pytest.raises(UnsupportedModelError, match="Adafactor"):
        MaskedTrainer(tmp_path / "art")


def test_the_space_of_a_net():
    space = Space.of(parameters_of(small_model()))
    assert space.weights == tuple(f"{n}.weight" for n in ("stem", "expand", "depthwise", "project"))
    assert space.biases == tuple(f"{n}.bias" for n in ("stem", "expand", "depthwise", "project"))
    assert space.always == ("head.weight", "head.bias")
    assert space.depths == (4, 3, 2, 1)
    assert len(space.singles()) == 1 + 4 + 4 * 4
    scheme = space.scheme(Choice(1, (0, 2, 0, 4)))
    assert scheme.trainable == ("head.weight", "head.bias", "project.bias")
    assert [rule.channels for rule in scheme.rules] == [Fraction(1, 4), 1]
    assert space.in_words(Choice(1, (0, 2, 0, 4))) == (
        "the head, the last 1 of 4 biases, 1/4 of expand.weight, project.weight"
    )
    assert Choice.of(Choice(1, (0, 2, 0, 4)).genes()) == Choice(1, (0, 2, 0, 4))

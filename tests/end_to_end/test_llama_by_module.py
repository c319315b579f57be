"""Any Llama of ``transformers``, given as module:function, learns as it does in PyTorch."""

from typing import Any

import numpy as np
import plain_llamas
import pytest
import torch
from zoo_training import BATCH, Task, gradient_errors, train_compiled, train_in_torch

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.frontend import load_model

RATE, STEPS = 1e-3, 5
QUICK = ("tied_biased_llama3", "eager_one_key_head_yarn")
SLOW = ("plain", "ungrouped_linear")
MODELS = (*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW))


class ByReference(Task):
    """A task whose model is named on the command line."""

    def imported(self) -> Any:
        return load_model(f"plain_llamas:{self.name}", BATCH)


def task(name: str) -> ByReference:
    module, _ = getattr(plain_llamas, name)()
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, plain_llamas.LENGTH + 1)
    tokens = torch.randint(0, plain_llamas.WORDS, shape, generator=generator)
    labels = tokens[:, 1:].clone()
    labels[0, :3] = -100  # a prompt
    labels[1, 5:] = -100  # padding
    return ByReference(name, module.eval(), {"input_ids": tokens[:, :-1]}, labels)


@pytest.mark.parametrize("name", MODELS)
def test_a_plain_llama_follows_pytorch(name, tmp_path):
    one = task(name)
    ours = train_compiled(one, RATE, STEPS, tmp_path / "net")
    theirs = train_in_torch(one, RATE, STEPS, torch.float64)
    errors = gradient_errors(ours.gradients, theirs.gradients)
    assert errors[0][1] <= 1e-4, errors[:5]
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4)
    assert theirs.losses[-1] < 0.98 * theirs.losses[0]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_every_plain_llama_imports(name):
    model = load_model(f"plain_llamas:{name}", BATCH)
    module, _ = getattr(plain_llamas, name)()
    assert set(model.parameters) == dict(module.named_parameters()).keys()
    assert [spec.name for spec in model.inputs] == ["input_ids"]
    assert dict(model.aliases) == (
        {"lm_head.weight": "model.embed_tokens.weight"} if "tied" in name else {}
    )


REFUSED = {
    "dynamic": "Could not guard on data-dependent expression",
    "long_rope": "The tensor attribute .* was assigned during export",
}


@pytest.mark.parametrize("name", REFUSED)
def test_rotations_that_follow_the_length_at_run_time_are_refused(name):
    message = f"^torch.export refuses {name}: {REFUSED[name]}.*; export it yourself to a .pt2 file$"
    with pytest.raises(UnsupportedModelError, match=message):
        load_model(f"plain_llamas:{name}", BATCH)

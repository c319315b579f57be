"""Every model of the zoo at full size: the loss and each gradient of one step against PyTorch.

The step is the one that users run, its gradients read off what plain SGD did to the weights. The
figures: pytest -m zoo tests/end_to_end/test_zoo_at_full_size.py --log-cli-level=info
"""

import gc
import logging

import numpy as np
import pytest
import torch
from zoo_training import Task, gradient_errors, task, train_in_torch

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend.zoo import ZOO

pytestmark = pytest.mark.zoo
log = logging.getLogger(__name__)
RATE = 2.0**20
"""So large that a weight after the step is all gradient: rounding costs 2⁻²⁴ of either."""
SMOOTH, KINKED = 1e-4, 2e-2
"""A net of ReLU or ReLU6 flips signs in float32 that it does not in float64, up to 1e-2 each."""
OF_KINKS = ("mcunet", "proxyless", "mobilenet_v2", "mobilenet_v2_035", "resnet50")
OF_KINKS += ("efficientnet_lite0",)


def _step(one: Task, folder) -> tuple[float, dict[str, np.ndarray]]:
    """Return the loss and the gradients of one step of the compiled model."""
    compiled = pock_tvm.compile(one.imported(), folder, loss=one.loss)
    report = compiled.report()
    log.info(
        "%s: compiled in %.0f s, transient %.1f MB (at least %.1f), %d kernel calls",
        one.name,
        report["compile_s"],
        report["transient_bytes"] / 1e6,
        report["transient_lower_bound_bytes"] / 1e6,
        report["kernel_calls"],
    )
    inputs = {name: value.numpy() for name, value in one.inputs.items()}
    labels = None if one.labels is None else one.labels.numpy().astype("int32")
    before = {n: p.detach().double().numpy() for n, p in one.module.named_parameters()}
    with Trainer(folder) as trainer:
        assert {t.name for t in trainer.description.tensors if t.trainable} == before.keys()
        loss = trainer.step(inputs, labels, RATE)
        return loss, {n: (w - trainer.tensor(n)) / RATE for n, w in before.items()}


def _check(one: Task, tolerance: float, folder) -> None:
    loss, gradients = _step(one, folder)
    gc.collect()
    theirs = train_in_torch(one, 0.0, 1, torch.float64, "SGD")
    log.info("%s: loss %.6f, PyTorch's %.6f", one.name, loss, theirs.losses[0])
    assert loss == pytest.approx(theirs.losses[0], rel=1e-5)
    errors = gradient_errors(gradients, theirs.gradients)
    log.info("%s: %d gradients, worst %s %.1e", one.name, len(errors), *errors[0])
    beyond = {name: error for name, error in errors if error > tolerance}
    if beyond:
        _check_beyond(one, beyond, theirs.gradients)


def _check_beyond(one: Task, beyond: dict[str, float], in_float64: dict[str, np.ndarray]) -> None:
    """Compare with PyTorch's float32, which shows what float32 cannot hold.

    Fresh weights make all tokens alike on the way up through BERT, and what attention sends back
    to its queries and keys cancels; which signs flip in ResNet-50 is chance.
    """
    in_float32 = train_in_torch(one, 0.0, 1, torch.float32, "SGD").gradients
    own = dict(gradient_errors(in_float32, in_float64))
    shares = {name: error / own[name] for name, error in beyond.items()}
    worst = max(shares, key=lambda name: shares[name])
    log.info(
        "%s: %d gradients are beyond the tolerance; PyTorch's float32 is off by up to %.1e there, "
        "ours by %.1f times as much at worst (%s)",
        one.name,
        len(beyond),
        max(own[name] for name in beyond),
        shares[worst],
        worst,
    )
    assert shares[worst] <= 3, sorted(shares.items(), key=lambda item: -item[1])[:5]


@pytest.mark.parametrize("name", ZOO)
def test_a_step_with_smooth_activations_is_pytorchs(name, tmp_path):
    _check(task(name, small=False), SMOOTH, tmp_path / "net")


@pytest.mark.parametrize("name", OF_KINKS)
def test_a_step_with_kinks_is_pytorchs(name, tmp_path):
    _check(task(name, small=False, kinks=True), KINKED, tmp_path / "net")

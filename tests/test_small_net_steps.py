"""The small net through every loss, optimizer and form of batch norm, step by step with PyTorch."""

import numpy as np
import pytest
import small_net
import torch
from torch.nn.functional import cross_entropy, mse_loss

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend import load_model
from pock_tvm.losses import CrossEntropy, MeanSquaredError
from pock_tvm.optimizers import SGD, AdamW

RATE = 0.05
CASES = {
    "sgd": (CrossEntropy(), SGD(), "frozen"),
    "mse, nesterov": (
        MeanSquaredError(),
        SGD(momentum=0.9, nesterov=True, weight_decay=0.01),
        "frozen",
    ),
    "smoothed, momentum, batch norm": (
        CrossEntropy(label_smoothing=0.1, ignore_index=3),
        SGD(momentum=0.9),
        "train",
    ),
    "adamw, batch norm": (CrossEntropy(), AdamW(beta1=0.8, weight_decay=0.1), "train"),
}


def _torch_optimizer(optimizer, parameters):
    if isinstance(optimizer, AdamW):
        betas = (optimizer.beta1, optimizer.beta2)
        decay = optimizer.weight_decay
        return torch.optim.AdamW(parameters, RATE, betas, optimizer.eps, decay)
    return torch.optim.SGD(
        parameters,
        RATE,
        optimizer.momentum,
        nesterov=optimizer.nesterov,
        weight_decay=optimizer.weight_decay,
    )


def _torch_loss(loss, output, labels):
    if isinstance(loss, MeanSquaredError):
        return mse_loss(output, labels)
    return cross_entropy(
        output,
        labels,
        ignore_index=loss.ignore_index,
        label_smoothing=loss.label_smoothing,
    )


@pytest.mark.parametrize("name", CASES)
def test_five_steps_follow_pytorch(name, tmp_path):
    loss, optimizer, batch_norm = CASES[name]
    model = load_model("small_net:build", small_net.BATCH)
    pock_tvm.compile(model, tmp_path / "net", loss=loss, optimizer=optimizer, batch_norm=batch_norm)
    generator = np.random.default_rng(0)
    pixels = generator.standard_normal((small_net.BATCH, 1, 8, 8), "float32")
    labels = generator.integers(0, small_net.CLASSES, small_net.BATCH)
    if isinstance(loss, MeanSquaredError):
        labels = generator.standard_normal((small_net.BATCH, small_net.CLASSES), "float32")

    module, _ = small_net.build()
    module.train(batch_norm == "train")
    reference = _torch_optimizer(optimizer, module.parameters())
    with Trainer(tmp_path / "net", threads=2) as trainer:
        for _ in range(5):
            wanted = _torch_loss(loss, module(torch.tensor(pixels)), torch.tensor(labels))
            reference.zero_grad()
            wanted.backward()
            reference.step()
            assert trainer.step(pixels, labels, RATE) == pytest.approx(wanted.item(), abs=1e-5)
        for key, value in module.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                np.testing.assert_allclose(
                    trainer.tensor(key), value.numpy(), atol=1e-4, err_msg=key
                )
        module.eval()
        output = module(torch.tensor(pixels)).detach()
        np.testing.assert_allclose(trainer.predict(pixels), output.numpy(), atol=1e-4)
        measured = trainer.evaluate(pixels, labels)
        wanted = _torch_loss(loss, output, torch.tensor(labels)).item()
        assert measured.loss == pytest.approx(wanted, abs=1e-5)
        if isinstance(loss, MeanSquaredError):
            assert measured.accuracy is None
        else:
            counted = labels != loss.ignore_index
            right = (output.argmax(1).numpy() == labels)[counted]
            assert measured.accuracy == right.mean()


def test_an_artifact_compiled_again_is_not_the_old_one(tmp_path):
    model = load_model("small_net:build", small_net.BATCH)
    pixels = np.ones((small_net.BATCH, 1, 8, 8), "float32")
    for update in ("head", "classifier.bias"):
        pock_tvm.compile(model, tmp_path / "net", update=update)
        with Trainer(tmp_path / "net") as trainer:
            trainer.step(pixels, np.zeros(small_net.BATCH, int), RATE)
            assert trainer.description.update["name"] == update

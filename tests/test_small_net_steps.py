"""The small net through losses, optimizers, clipping and batch norm, step by step with PyTorch."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import small_net
import torch
import torch.nn.functional as F
from optimizer_references import ReferenceLion
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import pock_tvm
from pock_tvm import Trainer, load_artifact
from pock_tvm.clipping import ClipGlobalNorm, ClipTensorNorm, ClipValue
from pock_tvm.frontend import load_model
from pock_tvm.losses import (
    BinaryCrossEntropy,
    Contrastive,
    CrossEntropy,
    Distillation,
    Huber,
    MeanSquaredError,
)
from pock_tvm.optimizers import SGD, Adafactor, Adam, AdamW, Lion, RMSProp
from pock_tvm.update import LoRA, Rule, UpdateScheme

RATE = 0.05
CASES = {
    "sgd": (CrossEntropy(), SGD(), {}),
    "mse, nesterov": (
        MeanSquaredError(),
        SGD(momentum=0.9, nesterov=True, weight_decay=0.01),
        {},
    ),
    "smoothed, momentum, batch norm": (
        CrossEntropy(label_smoothing=0.1, ignore_index=3),
        SGD(momentum=0.9),
        {"batch_norm": "train"},
    ),
    "adamw, batch norm": (
        CrossEntropy(),
        AdamW(beta1=0.8, weight_decay=0.1),
        {"batch_norm": "train"},
    ),
    "bce, rmsprop, clipped values": (
        BinaryCrossEntropy(pos_weight=2.0),
        RMSProp(eps=0.1, momentum=0.5),
        {"clip": ClipValue(0.01)},
    ),
    "huber, clipped tensors": (
        Huber(delta=0.5),
        SGD(momentum=0.9),
        {"clip": ClipTensorNorm(0.05)},
    ),
    "distillation, adam, clipped": (
        Distillation(weight=0.7, temperature=3.0, ignore_index=2),
        Adam(eps=1e-3),
        {"clip": ClipGlobalNorm(0.1)},
    ),
    "distillation, batch norm": (
        Distillation(),
        SGD(momentum=0.9),
        {"batch_norm": "train"},
    ),
    "adafactor": (CrossEntropy(), Adafactor(), {"update": "head"}),
    "lion": (
        CrossEntropy(),
        Lion(weight_decay=0.1, decay_matrices_only=True),
        {},
    ),
    "contrastive": (Contrastive(), SGD(), {"update": "features.*,classifier.weight"}),
}


def _torch_optimizer(optimizer, parameters):
    name, decay = optimizer.name, {"weight_decay": optimizer.weight_decay}
    if name in ("adam", "adamw"):
        make = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        return make(parameters, RATE, (optimizer.beta1, optimizer.beta2), optimizer.eps, **decay)
    if name == "rmsprop":
        options = {"eps": optimizer.eps, "momentum": optimizer.momentum}
        return torch.optim.RMSprop(parameters, RATE, optimizer.alpha, **options, **decay)
    if name == "lion":
        return ReferenceLion(parameters, RATE, 0.9, 0.99, optimizer.weight_decay, vectors=False)
    if name == "adafactor":
        return torch.optim.Adafactor(parameters, RATE)
    return torch.optim.SGD(
        parameters, RATE, optimizer.momentum, nesterov=optimizer.nesterov, **decay
    )


def _clip(clipping, parameters):
    if isinstance(clipping, ClipValue):
        clip_grad_value_(parameters, clipping.limit)
    if isinstance(clipping, ClipGlobalNorm):
        clip_grad_norm_(parameters, clipping.limit)
    if isinstance(clipping, ClipTensorNorm):
        for p in parameters:
            clip_grad_norm_([p], clipping.limit)


def _torch_loss(loss, output, labels, teacher):
    if isinstance(loss, Contrastive):
        diagonal = torch.arange(len(output))
        return (F.cross_entropy(output, diagonal) + F.cross_entropy(output.T, diagonal)) / 2
    if isinstance(loss, MeanSquaredError):
        return F.mse_loss(output, labels)
    if isinstance(loss, Huber):
        return F.huber_loss(output, labels, delta=loss.delta)
    if isinstance(loss, BinaryCrossEntropy):
        weight = torch.tensor(loss.pos_weight)
        return F.binary_cross_entropy_with_logits(output, labels, pos_weight=weight)
    options = {"ignore_index": loss.ignore_index, "label_smoothing": loss.label_smoothing}
    hard = F.cross_entropy(output, labels, **options)
    if isinstance(loss, CrossEntropy):
        return hard
    t, counted = loss.temperature, labels != loss.ignore_index
    q, p = (F.log_softmax(x[counted] / t, -1) for x in (output, teacher))
    soft = F.kl_div(q, p, reduction="batchmean", log_target=True)
    return (1 - loss.weight) * hard + loss.weight * t * t * soft


def _labels(loss, generator, batch):
    shape = (batch, small_net.CLASSES)
    if isinstance(loss, BinaryCrossEntropy):
        return generator.integers(0, 2, shape).astype("float32")
    if loss.labels == "values":
        return generator.standard_normal(shape, "float32")
    if loss.labels == "classes":
        return generator.integers(0, small_net.CLASSES, batch)
    return None


@pytest.mark.parametrize("name", CASES)
def test_five_steps_follow_pytorch(name, tmp_path):
    loss, optimizer, options = CASES[name]
    batch = small_net.CLASSES if isinstance(loss, Contrastive) else small_net.BATCH
    model = load_model("small_net:build", batch)
    pock_tvm.compile(model, tmp_path / "net", loss=loss, optimizer=optimizer, **options)
    generator = np.random.default_rng(0)
    pixels = generator.standard_normal((batch, 1, 8, 8), "float32")
    labels = _labels(loss, generator, batch)
    torch_labels = None if labels is None else torch.tensor(labels)

    module, _ = small_net.build()
    original = copy.deepcopy(module).eval()
    with torch.no_grad():
        teacher = original(torch.tensor(pixels))
    module.train(options.get("batch_norm") == "train")
    with Trainer(tmp_path / "net", threads=2) as trainer:
        trained = [t.name for t in trainer.description.tensors if t.trainable]
        parameters = [p for n, p in module.named_parameters() if n in trained]
        assert len(parameters) == len(trained)
        reference = _torch_optimizer(optimizer, parameters)
        for _ in range(5):
            wanted = _torch_loss(loss, module(torch.tensor(pixels)), torch_labels, teacher)
            module.zero_grad()
            wanted.backward()
            _clip(options.get("clip"), parameters)
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
        wanted = _torch_loss(loss, output, torch_labels, teacher).item()
        assert measured.loss == pytest.approx(wanted, abs=1e-5)
        assert measured.accuracy == _accuracy(loss, output, labels)


def _accuracy(loss, output, labels):
    if not loss.counts:
        return None
    if isinstance(loss, BinaryCrossEntropy):
        return ((output.numpy() > 0) == (labels > 0.5)).mean()
    counted = labels != loss.ignore_index
    return (output.argmax(1).numpy() == labels)[counted].mean()


def test_a_teacher_costs_only_what_differs(tmp_path):
    """With a head that learns, teacher and student share all layers before it."""
    model = load_model("small_net:build", small_net.BATCH)
    flops = {}
    for loss in ("cross_entropy", "distillation"):
        pock_tvm.compile(model, tmp_path / "net", loss=loss, update="head")
        artifact = load_artifact(tmp_path / "net")
        plan = artifact.plan()
        for entry in ("train_step", "evaluate"):
            calls = [c for c in plan[entry]["calls"] if "conv2d" in c["kernel"]]
            flops[loss, entry] = sum(c["flops"] for c in calls)
        copies = {t.name: t for t in artifact.description.tensors if t.name.startswith("teacher.")}
        wanted = {"teacher.classifier.weight", "teacher.classifier.bias"}
        assert set(copies) == (wanted if loss == "distillation" else set())
        assert all(t.region == "frozen" and not t.trainable for t in copies.values())
    assert flops["cross_entropy", "evaluate"] > 0
    assert len(set(flops.values())) == 1


PARTIAL = {
    "lora": UpdateScheme(
        name="lora", lora=(LoRA(rank=2, alpha=2.0, targets=("classifier.weight",)),)
    ),
    "half": UpdateScheme(
        name="half", rules=(Rule(match=("classifier.weight",), channels=Fraction(1, 2)),)
    ),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_a_student_that_has_not_learnt_is_its_teacher(name, tmp_path):
    """Also where a part of a weight learns, or factors beside it."""
    model = load_model("small_net:build", small_net.BATCH)
    labels = np.arange(small_net.BATCH)
    pixels = np.random.default_rng(0).standard_normal((small_net.BATCH, 1, 8, 8), "float32")
    words = {"loss": "distillation:weight=0.5,temperature=3", "optimizer": "adam"}
    pock_tvm.compile(model, tmp_path / "net", update=PARTIAL[name], **words)
    with Trainer(tmp_path / "net") as trainer:

        def divergence():
            logits = torch.tensor(trainer.predict(pixels))
            hard = F.cross_entropy(logits, torch.tensor(labels)).item()
            return (trainer.evaluate(pixels, labels).loss - 0.5 * hard) / (0.5 * 9)

        assert divergence() == pytest.approx(0, abs=1e-6)
        original = torch.tensor(trainer.predict(pixels)) / 3
        for _ in range(3):
            trainer.step(pixels, labels, 0.1)
        moved = torch.tensor(trainer.predict(pixels)) / 3
        p, q = F.log_softmax(original, -1), F.log_softmax(moved, -1)
        wanted = F.kl_div(q, p, reduction="batchmean", log_target=True).item()
        assert wanted > 1e-5
        assert divergence() == pytest.approx(wanted, abs=1e-6)


def test_an_artifact_compiled_again_is_not_the_old_one(tmp_path):
    model = load_model("small_net:build", small_net.BATCH)
    pixels = np.ones((small_net.BATCH, 1, 8, 8), "float32")
    for update in ("head", "classifier.bias"):
        pock_tvm.compile(model, tmp_path / "net", update=update)
        with Trainer(tmp_path / "net") as trainer:
            trainer.step(pixels, np.zeros(small_net.BATCH, int), RATE)
            assert trainer.description.update["name"] == update

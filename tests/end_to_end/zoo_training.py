"""One model of the zoo, our step and PyTorch's: the same module, the same batch."""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pock_tvm import Trainer
from pock_tvm import compile as compile_model
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.frontend.zoo import build_zoo_model

BATCH = 2
VALUE_OF_KEY = {"k_lin": "v_lin", "key": "value", "k_proj": "v_proj"}
"""Softmax does not see a shift of all keys, so the gradient of a key's bias is 0 but for rounding.

What cancels there is what arrives at the values: that sets the scale of the rounding."""
VANISHING = 1e-6
"""Of the gradient of the values' bias: 2⁻²⁴ times the root of some hundred positions."""


@dataclass(frozen=True)
class Task:
    """A module in eval mode and one batch; ``labels`` is None for the loss ``contrastive``."""

    name: str
    module: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None

    @property
    def loss(self) -> str:
        return "cross_entropy" if self.labels is not None else "contrastive"

    def imported(self) -> Any:
        return import_module(self.module, tuple(self.inputs.values()), BATCH, self.name)


@dataclass(frozen=True)
class Steps:
    """The loss of each step, and the gradients of the first."""

    losses: list[float]
    gradients: dict[str, np.ndarray]


def gradient_errors(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> list[tuple[str, float]]:
    """Return relative L2 by name, largest first; vanishing gradients must vanish."""
    assert ours.keys() == theirs.keys()
    errors = {}
    for name, expected in theirs.items():
        module, _, leaf = name.rpartition(".")
        stem, _, last = module.rpartition(".")
        size = np.linalg.norm(expected)
        if leaf == "bias" and last in VALUE_OF_KEY:
            scale = np.linalg.norm(theirs[f"{stem}.{VALUE_OF_KEY[last]}.bias"])
            # Keys that are rotated show a shift; and transformers has softmax in float32.
            if size <= VANISHING * scale:
                assert np.linalg.norm(ours[name]) <= VANISHING * scale, name
                continue
        errors[name] = float(np.linalg.norm(ours[name] - expected) / size)
    return sorted(errors.items(), key=lambda item: -item[1])


def smooth(module: torch.nn.Module) -> torch.nn.Module:
    """Put SiLU in the place of ReLU and ReLU6, whose kinks float32 and float64 see differently."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.ReLU | torch.nn.ReLU6):
            setattr(module, name, torch.nn.SiLU())
        else:
            smooth(child)
    return module


@functools.lru_cache(maxsize=1)
def task(name: str, *, small: bool, kinks: bool = False) -> Task:
    """Build a model and a batch of noise; ``kinks`` leaves its activations as they are."""
    module, examples = build_zoo_model(name, small=small)
    module = module.eval() if kinks else smooth(module.eval())
    generator = torch.Generator().manual_seed(0)

    def like(example: torch.Tensor) -> torch.Tensor:
        shape = (BATCH, *example.shape[1:])
        if example.is_floating_point():
            return torch.randn(shape, generator=generator)
        return torch.randint(1, 60, shape, generator=generator)

    names = ("pixel_values", "input_ids")
    inputs = {names[not example.is_floating_point()]: like(example) for example in examples}
    with torch.no_grad():
        logits = _logits(module(*inputs.values()))
    labels = None
    if name != "clip":
        labels = torch.randint(0, logits.shape[-1], logits.shape[:-1], generator=generator)
        if labels.ndim == 2:  # part of a prompt
            labels[0, :3] = -100
    return Task(name, module, inputs, labels)


def train_in_torch(
    task: Task,
    rate: float,
    steps: int,
    dtype: torch.dtype,
    optimizer: str = "AdamW",
    masks: Mapping[str, np.ndarray] | None = None,
) -> Steps:
    """Train a copy in ``dtype``, batch norm frozen; gradients count where the masks are true."""
    module = copy.deepcopy(task.module).to(dtype)
    inputs = [x.to(dtype) if x.is_floating_point() else x for x in task.inputs.values()]
    update = getattr(torch.optim, optimizer)(module.parameters(), lr=rate)
    losses: list[float] = []
    gradients: dict[str, np.ndarray] = {}
    for _ in range(steps):
        update.zero_grad()
        loss = _loss(_logits(module(*inputs)), task.labels)
        loss.backward()
        for name, parameter in module.named_parameters():
            if masks is not None and parameter.grad is not None:
                parameter.grad *= torch.from_numpy(masks[name])
        if not gradients:
            gradients = {
                n: p.grad.double().numpy().copy()
                for n, p in module.named_parameters()
                if p.grad is not None
            }
        update.step()
        losses.append(loss.item())
    return Steps(losses, gradients)


def train_compiled(task: Task, rate: float, steps: int, folder: Any) -> Steps:
    """Compile to a folder and train there."""
    compile_model(task.imported(), folder, optimizer="adamw", loss=task.loss, keep_gradients=True)
    inputs = {name: value.numpy() for name, value in task.inputs.items()}
    labels = None if task.labels is None else task.labels.numpy().astype("int32")
    losses: list[float] = []
    gradients: dict[str, np.ndarray] = {}
    with Trainer(folder) as trainer:
        for _ in range(steps):
            losses.append(trainer.step(inputs, labels, rate))
            if not gradients:
                tensors = trainer.description.tensors
                gradients = {t.name: _gradient(trainer, t) for t in tensors if t.trainable}
    return Steps(losses, gradients)


def _gradient(trainer: Trainer, tensor: Any) -> np.ndarray:
    stored = trainer.tensor(f"gradient.{tensor.name}", original_layout=False).copy()
    return stored if tensor.axes is None else stored.transpose(np.argsort(tensor.axes))


def _logits(out: Any) -> torch.Tensor:
    return out if isinstance(out, torch.Tensor) else out.logits


def _loss(logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    if labels is None:
        pairs = torch.arange(len(logits))
        rows = torch.nn.functional.cross_entropy(logits, pairs)
        return (rows + torch.nn.functional.cross_entropy(logits.T, pairs)) / 2
    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())

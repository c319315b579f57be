"""MobileNetV2 (224) and DistilBERT-base (128 tokens), two samples, and what PyTorch makes of them.

Weights are random, as ``transformers`` initialises them. Random weights under the untouched running
statistics (mean 0, variance 1) would let MobileNetV2's activations vanish on the way up, so the
statistics are measured first: the mean over four batches of eight noise pictures in train mode.
"""

import copy
import functools
from dataclasses import dataclass

import numpy as np
import torch

from pock_tvm.frontend import ImportedModel
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.frontend.zoo import build_zoo_model

OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class Model:
    """A module in eval mode, and one batch."""

    name: str
    module: torch.nn.Module
    inputs: torch.Tensor
    labels: torch.Tensor

    def imported(self, batch: int | None = None) -> ImportedModel:
        """Return the model as our front end sees it."""
        return import_module(self.module, (self.inputs,), batch or len(self.inputs), self.name)


@dataclass(frozen=True)
class Reference:
    """What PyTorch found: a loss per step, and the gradients of the first."""

    losses: list[float]
    gradients: dict[str, np.ndarray]


@functools.lru_cache(maxsize=1)
def build_model(name: str) -> Model:
    """Build ``mobilenet_v2``, ``mobilenet_v2_silu`` (SiLU for ReLU6) or ``distilbert``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "distilbert":
            module, _ = build_zoo_model(name)
            tokens = torch.randint(0, 30522, (2, 128))
            tokens[1, 100:] = 0  # padding, whose embedding does not learn
            return Model(name, module.eval(), tokens, torch.tensor([0, 1]))
        pictures, labels = torch.randn(2, 3, 224, 224), torch.randint(0, 1000, (2,))
        return Model(name, _mobilenet_v2(name), pictures, labels)


def _mobilenet_v2(name: str) -> torch.nn.Module:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    activation = "silu" if name.endswith("_silu") else "relu6"
    config = MobileNetV2Config(num_labels=1000, hidden_act=activation)
    module = MobileNetV2ForImageClassification(config)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for _ in range(4):
            module.train()(torch.randn(8, 3, 224, 224))
    return module.eval()


def train_in_torch(
    model: Model, optimizer: str, rate: float, steps: int, dtype: torch.dtype
) -> Reference:
    """Train a copy of the model in ``dtype`` with batch norm frozen."""
    module = copy.deepcopy(model.module).to(dtype)
    inputs = model.inputs.to(dtype) if model.inputs.is_floating_point() else model.inputs
    update = OPTIMIZERS[optimizer](module.parameters(), lr=rate)
    losses: list[float] = []
    gradients: dict[str, np.ndarray] = {}
    for _ in range(steps):
        update.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(inputs).logits, model.labels)
        loss.backward()
        if not gradients:
            gradients = {n: p.grad.double().numpy() for n, p in module.named_parameters()}
            gradients = {name: value.copy() for name, value in gradients.items()}
        update.step()
        losses.append(loss.item())
    return Reference(losses, gradients)


def mobilenet_v2() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """Return what the command line takes as ``full_models:mobilenet_v2``."""
    model = build_model("mobilenet_v2")
    return model.module, (model.inputs,)

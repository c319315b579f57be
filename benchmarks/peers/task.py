"""What is timed: one training step of one model, the same for every system."""

import functools
import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


def model_reference(model: str) -> str:
    """Return a zoo name, or ``package.module:function``, as the front end names it."""
    return model if ":" in model else f"zoo:{model}"


@dataclass(frozen=True)
class Task:
    """A model, a batch, what learns, and how.

    Attributes:
        model: a zoo name, or ``package.module:function`` as for ``pock compile``.
        batch: samples in one step.
        update: what ``pock compile --update`` takes.
        optimizer: ``sgd`` or ``adamw``.
        learning_rate: of every step.
        threads: for every system.
        learns: names of the parameters that ``update`` trains.
    """

    model: str
    batch: int
    update: str
    optimizer: str
    learning_rate: float
    threads: int
    learns: tuple[str, ...]

    @property
    def reference(self) -> str:
        """Return the model as the front end names it."""
        return model_reference(self.model)

    @functools.cached_property
    def built(self) -> tuple[Any, tuple[Any, ...]]:
        """Return the module, with the same weights each time, and its example inputs."""
        from pock_tvm.frontend.zoo import build_zoo_model

        if self.reference.startswith("zoo:"):
            return build_zoo_model(self.reference.removeprefix("zoo:"))
        module, _, function = self.model.partition(":")
        built: tuple[Any, tuple[Any, ...]] = getattr(importlib.import_module(module), function)()
        return built

    def import_builder(self) -> None:
        """Import the code that builds the model, without building it."""
        if not self.reference.startswith("zoo:"):
            importlib.import_module(self.model.partition(":")[0])
            return
        import transformers

        import pock_tvm.frontend.zoo  # noqa: F401  imported for its memory

        for name in ("MobileNetV2ForImageClassification", "DistilBertForSequenceClassification"):
            getattr(transformers, name)  # transformers imports a model's code when it is asked for

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Return one batch of random inputs, and the label 0 or 1 for each row of logits."""
        _, (example, *_) = self.built
        generator = np.random.default_rng(0)
        shape = (self.batch, *example.shape[1:])
        if example.dtype.is_floating_point:
            inputs = generator.standard_normal(shape).astype("float32")
        else:
            inputs = generator.integers(2, 40, shape).astype("int32")  # words of any vocabulary
        labels = generator.integers(0, 2, (self.batch, *self.places)).astype("int32")
        return inputs, labels

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """Return the axes between a sample and its classes: the tokens of a language model."""
        import torch

        module, example = self.built
        with torch.no_grad():
            output = module.eval()(*example)
        return tuple(getattr(output, "logits", output).shape[1:-1])


class System(ABC):
    """Something that trains; made once, stepped many times."""

    name: str
    seconds: float | None = None
    """Of the last step, where the system runs in a process of its own and says how long."""
    loss_limit: float = 1e-5
    """How far its loss may be from ours, relative to ours: float32, summed in another order."""
    same_update: bool = True
    """Whether it learns the parameters of the task, not fewer, nor products of them."""

    @abstractmethod
    def __init__(self, task: Task, folder: Path) -> None:
        """Get ready to step; ``folder`` holds what may be kept between processes."""

    @abstractmethod
    def step(self) -> float:
        """Do one optimizer step and return its loss."""

    def peak_bytes(self) -> int | None:
        """Return what a process of the system's own took beyond its libraries."""
        return None

    def close(self) -> None:  # noqa: B027  most have started nothing
        """End what the system has started."""

    def planned_bytes(self) -> int | None:
        """Return the bytes that the system says it needs, None where it does not say."""
        return None

    @classmethod
    @abstractmethod
    def load_libraries(cls, task: Task) -> None:
        """Import what stepping needs, so that libraries do not count as the system's memory."""

    @classmethod
    def for_memory(cls, task: Task, folder: Path) -> "System":
        """Make the system with nothing beside it in the process, to measure its memory."""
        return cls(task, folder)

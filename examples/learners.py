"""The same fine-tuning by two systems: an artifact of pock, and PyTorch eager.

Both take the batches and rates that they are given, start from the same weights and keep batch
norm's statistics frozen, so their losses can be compared step by step.
"""

import copy
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

import pock_tvm
from examples.digits import Samples
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.optimizers import AdamW
from pock_tvm.update import UpdateScheme


class Learner(Protocol):
    """What the story needs from a system.

    Attributes:
        transient_bytes: what a step needs beyond the weights and the optimizer's state.
        state_bytes: weights that learn and the optimizer's state.
    """

    transient_bytes: int
    state_bytes: int

    def step(self, batch: Samples, rate: float) -> float:
        """Do a step and return its loss."""

    def evaluate(self, samples: Samples) -> tuple[float, float]:
        """Return loss and accuracy."""

    def reset(self) -> None:
        """Go back to the weights before the first step."""


class PockLearner:
    """An artifact, compiled for ``scheme``."""

    def __init__(
        self, net: torch.nn.Module, example: Samples, scheme: UpdateScheme, folder: Path
    ) -> None:
        batch = len(example.labels)
        model = import_module(net, (torch.from_numpy(example.pictures),), batch, "digits")
        compiled = pock_tvm.compile(model, folder, update=scheme, optimizer=AdamW())
        self.report = compiled.report()
        self.trainer = pock_tvm.Trainer(folder, threads=1)
        regions = self.trainer.description.regions
        self.transient_bytes = regions.arena_bytes + regions.workspace_bytes_per_thread
        self.state_bytes = regions.state_bytes
        self._start = folder.with_suffix(".start")
        self.trainer.save_checkpoint(self._start)

    def step(self, batch: Samples, rate: float) -> float:
        """Do a step and return its loss."""
        return self.trainer.step(batch.pictures, batch.labels, rate)

    def evaluate(self, samples: Samples) -> tuple[float, float]:
        """Return loss and accuracy."""
        found = self.trainer.evaluate(samples.pictures, samples.labels)
        assert found.accuracy is not None
        return found.loss, found.accuracy

    def reset(self) -> None:
        """Go back to the weights before the first step."""
        self.trainer.load_checkpoint(self._start)


class TorchLearner:
    """PyTorch eager with gradients for the parameters that ``scheme`` names, on one thread."""

    def __init__(self, net: torch.nn.Module, example: Samples, scheme: UpdateScheme) -> None:
        torch.set_num_threads(1)
        self._original = net
        self._scheme = scheme
        self.reset()
        self.transient_bytes = self._measure_step(example)
        state = [t for s in self._optimizer.state.values() for t in s.values()]
        tensors = [t for t in (*self._learning, *state) if isinstance(t, torch.Tensor)]
        self.state_bytes = sum(t.nbytes for t in tensors)
        self.reset()

    def step(self, batch: Samples, rate: float) -> float:
        """Do a step and return its loss."""
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.zero_grad()
        loss = self._loss(batch)
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def evaluate(self, samples: Samples) -> tuple[float, float]:
        """Return loss and accuracy."""
        with torch.no_grad():
            logits = self._net(torch.from_numpy(samples.pictures))
            labels = torch.from_numpy(samples.labels)
            loss = torch.nn.functional.cross_entropy(logits, labels)
            return loss.item(), (logits.argmax(1) == labels).float().mean().item()

    def reset(self) -> None:
        """Go back to the weights before the first step."""
        self._net = copy.deepcopy(self._original).eval()
        named = dict(self._net.named_parameters())
        chosen = self._scheme.select(list(named))
        for name, parameter in named.items():
            parameter.requires_grad_(name in chosen)
        self._learning = [named[name] for name in chosen]
        self._optimizer = torch.optim.AdamW(self._learning, lr=0.0)

    def _loss(self, batch: Samples) -> torch.Tensor:
        logits = self._net(torch.from_numpy(batch.pictures))
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels))

    def _measure_step(self, batch: Samples) -> int:
        """Return the peak of the bytes that PyTorch's allocator hands out during a step.

        Measured by its own profiler, which sees tensors and not the scratch memory of its kernels;
        the batch is counted too, as it is for an artifact.
        """
        self.step(batch, 0.0)  # the optimizer allocates its state
        self._optimizer.zero_grad()
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or it writes to stderr that it starts
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.step(batch, 0.0)
        events = profiler.profiler.kineto_results.events()
        changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
        peak = int(np.cumsum([nbytes for _, nbytes in changes]).max())
        return peak + batch.pictures.nbytes + batch.labels.nbytes

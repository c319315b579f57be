"""Ours: an artifact for this machine, driven by ``Trainer``."""

from pathlib import Path

import numpy as np

from benchmarks.peers.task import System, Task


class Pock(System):
    """A compiled artifact; compiling it is not part of what is measured."""

    name = "pock"

    def __init__(self, task: Task, folder: Path) -> None:
        from pock_tvm import compile
        from pock_tvm.frontend import load_model

        model = load_model(task.reference, task.batch)
        compile(model, folder / "artifact", update=task.update, optimizer=task.optimizer)
        self._open(task, folder)
        self.inputs, self.labels = task.samples()

    def _open(self, task: Task, folder: Path) -> None:
        from pock_tvm import Trainer

        self.rate, self.threads = task.learning_rate, task.threads
        self.trainer = Trainer(folder / "artifact", threads=task.threads)

    @classmethod
    def for_memory(cls, task: Task, folder: Path) -> "Pock":
        """Open the artifact that timing left in ``folder``, without the model it came from."""
        system = cls.__new__(cls)
        system._open(task, folder)
        tensors = system.trainer.description.tensors
        (inputs,) = (t for t in tensors if t.role == "input")
        (labels,) = (t for t in tensors if t.role == "label")
        system.inputs = np.zeros(inputs.original_shape, inputs.dtype)
        system.labels = np.zeros(labels.original_shape, labels.dtype)
        return system

    @classmethod
    def load_libraries(cls, task: Task) -> None:
        """Import the trainer; it needs numpy and nothing else."""
        import pock_tvm.trainer  # noqa: F401  imported for its memory

    def step(self) -> float:
        """Do one step, input checks and the copy of the batch included."""
        return self.trainer.step(self.inputs, self.labels, self.rate)

    def planned_bytes(self) -> int:
        """Return weights, optimizer state, transients, and the workspace of all threads."""
        regions = self.trainer.description.regions
        resident = regions.frozen_bytes + regions.state_bytes + regions.arena_bytes
        return resident + regions.workspace_bytes_per_thread * self.threads

"""Time whole training steps of several artifacts on this machine, in turn.

    for each round:                      # the order turns around from round to round
        for each artifact: one step      # learning rate 0, on the same made-up samples

What else the machine does then falls on all of them alike. Every step starts from the inputs: their
memory belongs to the planner during a step. Filling them is not timed.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pock_tvm.artifact.batch import input_tensors, label_tensor
from pock_tvm.artifact.load import Artifact
from pock_tvm.artifact.made_up import draw
from pock_tvm.artifact.session import Session
from pock_tvm.errors import DivergedError

_WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Optimizer steps of one artifact, in the order of the rounds."""

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    """Of all threads together."""


def time_steps(artifacts: Sequence[Artifact], *, threads: int, steps: int) -> list[StepTimes]:
    """Return the times of ``steps`` steps of each artifact.

    Raises:
        ArtifactError: an artifact is for another machine.
    """
    with contextlib.ExitStack() as stack:
        runs = [
            _Run(stack.enter_context(contextlib.closing(Session(artifact, threads))), artifact)
            for artifact in artifacts
        ]
        for count in range(-_WARM_UP, steps):
            for run in runs[:: -1 if count % 2 else 1]:
                wall_ns, cpu_ns = run.step()
                if count >= 0:
                    run.wall_ns.append(wall_ns)
                    run.cpu_ns.append(cpu_ns)
        return [StepTimes(wall_ns=tuple(r.wall_ns), cpu_ns=tuple(r.cpu_ns)) for r in runs]


class _Run:
    """One artifact in memory, its samples and what it took so far."""

    def __init__(self, session: Session, artifact: Artifact) -> None:
        self._session = session
        self._batches = artifact.description.accumulate
        self.wall_ns: list[int] = []
        self.cpu_ns: list[int] = []
        label = label_tensor(artifact.description)
        given = (*input_tensors(artifact.description), *([] if label is None else [label]))
        generator = np.random.default_rng(0)
        self._samples = [(tensor, draw(generator, tensor, tensor.shape)) for tensor in given]

    def step(self) -> tuple[int, int]:
        """Do one optimizer step; return its wall-clock and its processor time."""
        spent = [self._batch() for _ in range(self._batches)]
        return sum(wall for wall, _ in spent), sum(cpu for _, cpu in spent)

    def _batch(self) -> tuple[int, int]:
        for tensor, values in self._samples:
            self._session.view(tensor)[...] = values
        is_last = self._session.waiting == self._batches - 1
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        # Made-up samples may give a loss that is not finite; the kernels have done their work.
        with contextlib.suppress(DivergedError):
            if is_last:
                self._session.train_step(0.0)
            else:
                self._session.accumulate()
        return time.perf_counter_ns() - wall, time.process_time_ns() - cpu

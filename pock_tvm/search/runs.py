"""One short fine-tuning run: plain data in, plain data out, so that any process can do it."""

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.errors import DivergedError
from pock_tvm.search.masked_trainer import MaskedTrainer
from pock_tvm.search.samples import Samples, read_npz


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to do: fine-tune an artifact under a mask, then measure it."""

    artifact: str
    train: str
    """An ``.npz`` of samples to learn from."""
    measure: str
    """An ``.npz`` of samples to be measured on."""
    steps: int
    learning_rate: float
    schedule: str = "linear"
    seed: int = 0
    """Of the order of samples."""
    mask: Mapping[str, Any] | None = None
    """Of an artifact of everything: what learns; None where the artifact says it."""

    def as_task(self) -> dict[str, Any]:
        """Return the run as plain data."""
        return {"task": "run", **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What came of it; a run that diverged has no numbers."""

    accuracy: float | None
    loss: float | None
    diverged: bool = False
    losses: tuple[float, ...] = field(default=(), repr=False)
    """Of each step."""


def fine_tune(run: Run) -> RunResult:
    """Do the run on one thread: many of them fill the machine."""
    trainer = _trainer(run.artifact)
    train, measure = _samples(run.train), _samples(run.measure)
    trainer.restart(run.mask)
    losses: list[float] = []
    try:
        if run.steps:
            losses = trainer.fit(
                _inputs(train),
                train.labels,
                steps=run.steps,
                learning_rate=run.learning_rate,
                schedule=run.schedule,
                seed=run.seed,
            )
        found = trainer.evaluate(_inputs(measure), measure.labels)
    except DivergedError:
        return RunResult(accuracy=None, loss=None, diverged=True)
    if not math.isfinite(found.loss):
        return RunResult(accuracy=None, loss=None, diverged=True)
    return RunResult(accuracy=found.accuracy, loss=found.loss, losses=tuple(losses))


def perform(task: Mapping[str, Any]) -> dict[str, Any]:
    """Do a run that was written down as plain data; the losses of its steps are left out."""
    result = fine_tune(Run(**{key: value for key, value in task.items() if key != "task"}))
    return {"accuracy": result.accuracy, "loss": result.loss, "diverged": result.diverged}


def save_samples(samples: Samples, path: Path) -> None:
    """Write samples for the workers."""
    given = samples.samples
    arrays = dict(given) if isinstance(given, Mapping) else {_SINGLE: given}
    np.savez(path, labels=samples.labels, **arrays)  # type: ignore[arg-type]  # names are texts


def load_samples(path: str) -> tuple[Any, np.ndarray]:
    """Return the inputs and labels of what ``save_samples`` wrote."""
    samples = _samples(path)
    return _inputs(samples), samples.labels


_SINGLE = "the only input"


def _inputs(samples: Samples) -> Any:
    """Return the inputs as a trainer takes them; a single array needs no name."""
    given = samples.samples
    return given[_SINGLE] if isinstance(given, Mapping) and _SINGLE in given else given


@functools.lru_cache(maxsize=2)
def _trainer(artifact: str) -> MaskedTrainer:
    return MaskedTrainer(artifact, threads=1)


@functools.lru_cache(maxsize=4)
def _samples(path: str) -> Samples:
    return read_npz(Path(path))

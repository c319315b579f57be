"""Train, evaluate and predict with an artifact; needs numpy and the C library, nothing else."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from pock_tvm.artifact.batch import (
    Inputs,
    by_name,
    check_count,
    check_labels,
    input_tensors,
    label_tensor,
    padded,
    stored_samples,
)
from pock_tvm.artifact.description import (
    ACCUMULATION_COUNT,
    RANDOM_COUNTER,
    ArtifactDescription,
    TensorSpec,
)
from pock_tvm.artifact.draws import Draws
from pock_tvm.artifact.export import export_weights, original_layout_of, stored_weights
from pock_tvm.artifact.load import load_artifact
from pock_tvm.artifact.session import Progress, Session, usable_cores
from pock_tvm.augmentation import Augmentation
from pock_tvm.errors import BatchError, DivergedError, UnknownNameError
from pock_tvm.learning_rate import Rate, Schedule, rate_function
from pock_tvm.sampling import run_length


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Means over all samples."""

    loss: float
    accuracy: float | None
    """Share of labels predicted right; None where the artifact does not count."""
    samples: int


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One step of a run."""

    step: int
    """Steps that the run had done before it."""
    loss: float
    learning_rate: float


class Trainer:
    """An artifact in memory, ready to train; a context manager."""

    def __init__(self, artifact: str | os.PathLike[str], threads: int | None = None) -> None:
        """Load and check an artifact.

        Args:
            artifact: the folder.
            threads: how many to use; all that this process may run on when None.

        Raises:
            ArtifactError: the artifact is damaged, or for another machine.
        """
        self.artifact = load_artifact(artifact)
        self._session = Session(self.artifact, threads or usable_cores())
        self._history: list[StepRecord] = []

    @property
    def description(self) -> ArtifactDescription:
        """What the artifact says about itself."""
        return self.artifact.description

    @property
    def batch(self) -> int:
        """Samples that are computed at once."""
        return self.description.batch

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimizer step: several batches where gradients are accumulated."""
        return self.batch * self.description.accumulate

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the artifact was compiled; a checkpoint carries the number."""
        return int(self._session.progress.step)

    @property
    def history(self) -> tuple[StepRecord, ...]:
        """The steps of the last ``fit``, or those done so far of one that goes on."""
        return tuple(self._history)

    def step(self, inputs: Inputs, labels: np.ndarray | None, learning_rate: float) -> float:
        """Do one optimizer step on exactly ``samples_per_step`` samples and return their loss.

        With accumulation the loss is the mean of the batches' losses, as it is of their gradients.

        Labels are None for a loss that takes none.

        Raises:
            BatchError: a name, shape, dtype or value does not fit.
            DivergedError: the loss is not finite.
        """
        samples = self._labelled(inputs, labels)
        check_count(samples, self.samples_per_step)
        self._forget_waiting()
        for start in range(0, self.samples_per_step, self.batch):
            piece = {name: array[start : start + self.batch] for name, array in samples.items()}
            loss = self._batch(piece, learning_rate)
        return loss

    def evaluate(self, inputs: Inputs, labels: np.ndarray | None = None) -> Evaluation:
        """Return loss and accuracy over any number of samples.

        A loss without labels compares the samples of a batch with each other: it is measured on
        whole batches, and what is left of the samples is left out.
        """
        samples = self._labelled(inputs, labels)
        count = check_count(samples)
        label = label_tensor(self.description)
        if label is None:
            return self._evaluate_whole_batches(samples, count // self.batch)
        loss = weight = 0.0
        right, counted = 0, True
        for start in range(0, count, self.batch):
            piece = {name: array[start : start + self.batch] for name, array in samples.items()}
            valid = _valid(label, piece[label.name])
            if not valid:
                continue  # all of its labels are to be ignored
            piece_loss, piece_right = self._evaluate(piece, label)
            loss += piece_loss * valid
            weight += valid
            right += piece_right
            counted = counted and piece_right >= 0
        if not weight:
            raise BatchError(f"every label is {label.ignore}, which the loss ignores")
        accuracy = right / weight if counted else None
        return Evaluation(loss=loss / weight, accuracy=accuracy, samples=count)

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Return the model's output for any number of samples, one row each."""
        samples = self._samples(inputs)
        count = check_count(samples)
        rows = []
        for start in range(0, count, self.batch):
            piece = {name: array[start : start + self.batch] for name, array in samples.items()}
            self._fill({name: padded(array, self.batch) for name, array in piece.items()})
            self._session.predict()
            output = self.description.tensor("logits")
            rows.append(original_layout_of(output, self._session.view(output)).copy())
        return np.concatenate(rows)[:count]

    def fit(
        self,
        inputs: Inputs,
        labels: np.ndarray | None = None,
        *,
        epochs: float | None = None,
        steps: int | None = None,
        learning_rate: Rate,
        schedule: str | Schedule = "constant",
        seed: int = 0,
        augment: str | Augmentation | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        resume: bool = False,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> list[float]:
        """Train on shuffled samples, each drawn once before any is drawn again.

        The order is a function of the seed and the position alone, and a checkpoint holds both:
        a run that was interrupted goes on at the very sample where it stopped.

        Args:
            inputs: all samples, any number.
            labels: one per sample; None for a loss that takes none.
            epochs: how often each sample is drawn; or else ``steps``.
            steps: length of the whole run, including what a resumed run has done already.
            learning_rate: the peak, or a function of the steps that the run has done.
            schedule: how the rate follows from the peak, such as ``cosine:warmup=100``; see
                ``pock_tvm.learning_rate``.
            seed: of the order, and of what dropout drops.
            augment: ``crop=4,flip``: move pictures by up to 4 pixels, mirror half of them.
            checkpoint: file to write at the end, and every ``checkpoint_every`` steps.
            checkpoint_every: steps between checkpoints.
            resume: go on from ``checkpoint`` if it exists, or else from where this trainer stands.
            progress: called after each step with steps done, steps in all, the loss.

        Returns:
            The losses of the steps that this call did.

        Raises:
            BatchError: fewer samples than a step takes, one class only, or what does not fit.
            DivergedError: a loss or weight is not finite; the last checkpoint is kept.
        """
        draws = Draws(self.description, self._labelled(inputs, labels), seed, augment)
        rate_of = rate_function(learning_rate, schedule)
        total = run_length(epochs, steps, draws.count, self.samples_per_step)
        cursor = self._start_run(seed, checkpoint, resume=resume)
        done = cursor // self.samples_per_step
        if cursor % self.samples_per_step != self._session.waiting * self.batch:
            self._forget_waiting()  # what waits is not of this run
            cursor = done * self.samples_per_step
        self._history = []
        for step in range(done, total):
            rate = rate_of(step, total)
            end = (step + 1) * self.samples_per_step
            while cursor < end:
                loss = self._guarded(draws.at(cursor), rate, checkpoint)
                cursor += self.batch
                self._advance(seed, cursor)
            self._history.append(StepRecord(step=step, loss=loss, learning_rate=rate))
            if checkpoint and checkpoint_every and (step + 1) % checkpoint_every == 0:
                self.save_checkpoint(checkpoint)
            if progress:
                progress(step + 1, total, loss)
        if checkpoint and self._history:
            self.save_checkpoint(checkpoint)
        return [record.loss for record in self._history]

    def tensor(self, name: str, *, original_layout: bool = True) -> np.ndarray:
        """Return a copy of a weight, statistic or optimizer tensor, or of an arena tensor."""
        try:
            tensor = self.description.tensor(name)
        except KeyError:
            raise UnknownNameError(f"the artifact has no tensor {name!r}") from None
        stored = self._session.view(tensor)
        return (original_layout_of(tensor, stored) if original_layout else stored).copy()

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take over values of weights that learn, in the model's own layouts; state stays.

        Raises:
            UnknownNameError: the artifact has no such weight, or it does not learn here.
            BatchError: a shape or dtype does not fit; no weight is changed.
        """
        self._fill(stored_weights(self.description, weights))

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write weights, optimizer state and progress; whatever fails, the old file stays."""
        self._session.save_checkpoint(path)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint of this model, written by any of its artifacts.

        Raises:
            ArtifactError: it is damaged or of another model; the trainer is left as it was.
        """
        self._session.load_checkpoint(path)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write all weights as safetensors, by the model's own names and in its own layouts."""
        export_weights(self.description, self._session.view, path, self.artifact.unused)

    def set_threads(self, threads: int) -> None:
        """Use fewer threads than the trainer was made with, or as many again."""
        self._session.set_threads(threads)

    def close(self) -> None:
        """Give threads and memory back; a second call does nothing."""
        self._session.close()

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_session"):
            self._session.close()

    def _samples(self, inputs: Inputs, labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the samples in stored form, checked."""
        given = by_name(self.description, inputs)
        wanted = {tensor.name: tensor for tensor in input_tensors(self.description)}
        label = label_tensor(self.description)
        if label is not None and labels is not None:
            wanted[label.name] = label
            given[label.name] = labels
        return {name: stored_samples(tensor, given[name]) for name, tensor in wanted.items()}

    def _labelled(self, inputs: Inputs, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return the samples, and their labels where the loss takes some."""
        check_labels(self.description, labels)
        return self._samples(inputs, labels)

    def _fill(self, batch: Mapping[str, np.ndarray]) -> None:
        for name, array in batch.items():
            np.copyto(self._session.view(self.description.tensor(name)), array)

    def _batch(self, batch: Mapping[str, np.ndarray], rate: float) -> float:
        """Take one batch; the last of a step makes the update and returns the loss of all."""
        self._fill(batch)
        if self._session.waiting < self.description.accumulate - 1:
            return self._session.accumulate()
        return self._session.train_step(rate)

    def _forget_waiting(self) -> None:
        """Drop the gradients of a step that was given up half way."""
        if self._session.waiting:
            self._session.view(self.description.tensor(ACCUMULATION_COUNT))[...] = 0

    def _guarded(
        self,
        batch: Mapping[str, np.ndarray],
        rate: float,
        checkpoint: str | os.PathLike[str] | None,
    ) -> float:
        try:
            return self._batch(batch, rate)
        except DivergedError as error:
            if checkpoint is None or not os.path.exists(checkpoint):  # noqa: PTH110 (any PathLike)
                raise
            raise DivergedError(f"{error}; the last good checkpoint is {checkpoint}") from None

    def _evaluate(self, piece: Mapping[str, np.ndarray], label: TensorSpec) -> tuple[float, int]:
        """Evaluate up to a batch: mean loss over the real samples, right labels among them."""
        real = len(piece[label.name])
        batch = {name: padded(array, self.batch) for name, array in piece.items()}
        missing = self.batch - real
        if missing and label.ignore is not None:
            batch[label.name][real:] = label.ignore
        self._fill(batch)
        loss, right = self._session.evaluate()
        if not missing or label.ignore is not None:
            return loss, right
        # The padding repeats the last sample: a batch of nothing else tells what it added.
        self._fill({name: array[[-1] * self.batch] for name, array in batch.items()})
        last_loss, last_right = self._session.evaluate()
        loss = (loss * self.batch - last_loss * missing) / real
        return loss, right if right < 0 else right - last_right * missing // self.batch

    def _evaluate_whole_batches(
        self, samples: Mapping[str, np.ndarray], batches: int
    ) -> Evaluation:
        """Return the mean loss of the whole batches."""
        if not batches:
            raise BatchError(f"the loss is that of a whole batch: give at least {self.batch}")
        loss = 0.0
        for start in range(0, batches * self.batch, self.batch):
            self._fill({n: array[start : start + self.batch] for n, array in samples.items()})
            loss += self._session.evaluate()[0]
        return Evaluation(loss=loss / batches, accuracy=None, samples=batches * self.batch)

    def _start_run(
        self, seed: int, checkpoint: str | os.PathLike[str] | None, *, resume: bool
    ) -> int:
        """Return how many samples the run has drawn already."""
        if not resume:
            self._advance(seed, 0)
            self._seed_dropout(seed)
            self._forget_waiting()
            return 0
        if checkpoint is not None and os.path.exists(checkpoint):  # noqa: PTH110 (any PathLike)
            self.load_checkpoint(checkpoint)
        at = self._session.progress
        if at.cursor and at.seed != seed:
            raise BatchError(f"the run was started with seed {at.seed}, not {seed}; resume with it")
        return int(at.cursor)

    def _seed_dropout(self, seed: int) -> None:
        """Let masks follow the seed too; how many were drawn already stands beside it."""
        for tensor in self.description.tensors:
            if tensor.name == RANDOM_COUNTER:
                self._session.view(tensor)[0] = seed

    def _advance(self, seed: int, cursor: int) -> None:
        step = self._session.progress.step
        self._session.progress = Progress(step=step, cursor=cursor, seed=seed)


def _valid(label: TensorSpec, labels: np.ndarray) -> int:
    """Count the labels that the loss is a mean over."""
    if label.ignore is None:
        return labels.size
    return int(np.count_nonzero(labels != label.ignore))

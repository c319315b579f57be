"""Check arrays against what the model was compiled for, and bring them into stored form."""

from collections.abc import Mapping, Sequence

import numpy as np

from pock_tvm.artifact.description import ArtifactDescription, TensorSpec
from pock_tvm.artifact.sample_form import TensorForm
from pock_tvm.errors import BatchError

Inputs = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
"""One array, arrays in the order of the model's inputs, or arrays by name."""


def input_tensors(description: ArtifactDescription) -> tuple[TensorSpec, ...]:
    """Return the model's inputs in the order of its ``forward``."""
    return tuple(tensor for tensor in description.tensors if tensor.role == "input")


def label_tensor(description: ArtifactDescription) -> TensorSpec | None:
    """Return the labels' tensor; None where the loss takes none."""
    return next((tensor for tensor in description.tensors if tensor.role == "label"), None)


def check_labels(description: ArtifactDescription, labels: np.ndarray | None) -> None:
    """Check that there are labels where the loss takes some, and only there.

    Raises:
        BatchError: labels are missing, or there is no use for them.
    """
    loss = description.loss.get("name", "of the artifact")
    if label_tensor(description) is None and labels is not None:
        raise BatchError(f"the loss {loss} takes no labels: leave them out")
    if label_tensor(description) is not None and labels is None:
        raise BatchError(f"the loss {loss} takes labels, and none are given")


def by_name(description: ArtifactDescription, inputs: Inputs) -> dict[str, np.ndarray]:
    """Give every array its input's name.

    Raises:
        BatchError: there are too few, too many, or unknown ones.
    """
    names = [tensor.name for tensor in input_tensors(description)]
    if isinstance(inputs, Mapping):
        if set(inputs) != set(names):
            raise BatchError(f"inputs are named {sorted(inputs)}; the model takes {sorted(names)}")
        return {name: inputs[name] for name in names}
    arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    if len(arrays) != len(names):
        raise BatchError(f"{len(arrays)} inputs given; the model takes {len(names)}: {names}")
    return dict(zip(names, arrays, strict=True))


def stored_samples(tensor: TensorSpec, value: np.ndarray) -> np.ndarray:
    """Check any number of samples of one tensor and return them in stored layout and dtype.

    Raises:
        BatchError: the shape of a sample, the dtype or a value does not fit.
    """
    value = TensorForm.of(tensor).checked(value)
    if tensor.axes is not None:
        value = value.transpose(tensor.axes)
    return value


def check_count(arrays: Mapping[str, np.ndarray], batch: int | None = None) -> int:
    """Return how many samples all arrays hold.

    Raises:
        BatchError: they disagree, there are none, or there are not ``batch`` of them.
    """
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise BatchError(f"the arrays hold different numbers of samples: {listed}")
    count = next(iter(counts.values()))
    if not count:
        raise BatchError("the arrays hold no samples")
    if batch is not None and count != batch:
        raise BatchError(
            f"{count} samples given; the artifact was compiled for batches of {batch} "
            "(`fit` cuts any number of samples into batches)"
        )
    return count


def padded(array: np.ndarray, batch: int) -> np.ndarray:
    """Repeat the last sample until the batch is full; always a copy."""
    rows = np.minimum(np.arange(batch), len(array) - 1)
    return array[rows]

"""Read what follows ``--data``: ``.npz`` by names, ``.pockdata``, or a folder of pictures."""

from pathlib import Path

import numpy as np

from pock_tvm.artifact.batch import input_tensors, label_tensor
from pock_tvm.artifact.dataset_file import read_dataset
from pock_tvm.artifact.description import ArtifactDescription
from pock_tvm.artifact.export import original_layout_of
from pock_tvm.errors import BatchError
from pock_tvm.samples.image_folder import read_image_folder
from pock_tvm.samples.npz_file import read_npz_arrays

LABELS = "labels"


def read_inputs(path: Path, description: ArtifactDescription) -> dict[str, np.ndarray]:
    """Return the samples of a data file without labels.

    Raises:
        BatchError: the file cannot be read, or lacks an input of the model.
    """
    arrays = _read(path, description, labelled=False)
    arrays.pop(LABELS, None)
    return _only_inputs(path, description, arrays)


def read_samples(
    path: Path, description: ArtifactDescription
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return the samples and the labels of a data file, None where the loss takes none.

    Raises:
        BatchError: the file cannot be read, or lacks the labels or an input of the model.
    """
    arrays = _read(path, description, labelled=True)
    if label_tensor(description) is None:
        arrays.pop(LABELS, None)
        return _only_inputs(path, description, arrays), None
    if LABELS not in arrays:
        raise BatchError(f"{path} holds no array {LABELS!r}, only {sorted(arrays)}")
    labels = arrays.pop(LABELS)
    return _only_inputs(path, description, arrays), labels


def _read(path: Path, description: ArtifactDescription, *, labelled: bool) -> dict[str, np.ndarray]:
    if path.is_dir():
        return read_image_folder(path, description, labelled=labelled)
    if path.suffix == ".pockdata":
        stored = read_dataset(path, description)
        return {n: original_layout_of(description.tensor(n), a) for n, a in stored.items()}
    return read_npz_arrays(path)


def _only_inputs(
    path: Path, description: ArtifactDescription, arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    wanted = [tensor.name for tensor in input_tensors(description)]
    if set(arrays) != set(wanted):
        raise BatchError(f"{path} holds the inputs {sorted(arrays)}; the model takes {wanted}")
    return arrays

"""Read what follows ``--data``: a packed file of the artifact's own, or any other source."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pock_tvm.artifact.dataset_file import is_dataset, read_dataset
from pock_tvm.artifact.description import ArtifactDescription
from pock_tvm.artifact.export import original_layout_of
from pock_tvm.artifact.sample_form import SampleForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.columns import Columns
from pock_tvm.samples.open_source import open_source
from pock_tvm.samples.source import LABELS, Arrays, Source


def read_inputs(
    path: Path, description: ArtifactDescription, columns: Columns | None = None
) -> dict[str, np.ndarray]:
    """Return the samples of a data file without labels.

    Raises:
        BatchError: the file cannot be read, or lacks an input of the model.
    """
    form = SampleForm.of(description)
    return source_for(path, description, columns, labelled=False).whole(form, labelled=False)


def read_samples(
    path: Path, description: ArtifactDescription, columns: Columns | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return the samples and the labels of a data file, None where the loss takes none.

    Raises:
        BatchError: the file cannot be read, or lacks the labels or an input of the model.
    """
    form = SampleForm.of(description)
    arrays = source_for(path, description, columns).whole(form, labelled=True)
    labels = arrays.pop(LABELS, None)
    return arrays, labels


def read_for_model(
    path: Path, form: SampleForm, columns: Columns | None = None
) -> dict[str, np.ndarray]:
    """Return the samples for a model that is not compiled yet, ``labels`` among them.

    Raises:
        BatchError: the file cannot be read, or does not fit the model.
    """
    if is_dataset(path):
        raise BatchError(f"{path} is packed for an artifact; give the data that it was packed from")
    return open_source(path, form, columns).whole(form, labelled=True)


def check_readable(path: Path) -> None:
    """Refuse a path that leads nowhere, before minutes of work on the model.

    Raises:
        BatchError: there is nothing.
    """
    if not path.exists():
        raise BatchError(f"cannot read {path}: No such file or directory")


def source_for(
    path: Path,
    description: ArtifactDescription,
    columns: Columns | None = None,
    *,
    labelled: bool = True,
) -> Source:
    """Open data for an artifact.

    Raises:
        BatchError: the file cannot be read, or holds nothing that the model takes.
    """
    if not is_dataset(path):
        return open_source(path, SampleForm.of(description), columns, labelled=labelled)
    stored = read_dataset(path, description)
    arrays = {n: original_layout_of(description.tensor(n), a) for n, a in stored.items()}

    def pieces(most: int) -> Iterator[Arrays]:
        for start in range(0, count, most):
            yield {name: array[start : start + most] for name, array in arrays.items()}

    count = len(next(iter(arrays.values())))
    return Source(str(path), count, pieces)

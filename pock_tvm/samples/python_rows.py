"""Samples out of Python: any iterable of rows or of (input, label) pairs."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from pock_tvm.artifact.description import ArtifactDescription
from pock_tvm.artifact.sample_form import SampleForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.columns import Columns
from pock_tvm.samples.source import LABELS, Source
from pock_tvm.samples.table import Table, table_source
from pock_tvm.samples.table_file import Row


def rows_source(
    rows: Iterable[Any],
    form: SampleForm | ArtifactDescription,
    columns: Columns | None = None,
    *,
    labelled: bool = True,
) -> Source:
    """Return rows as samples.

    Args:
        rows: mappings of columns, or pairs of (input, label) for a model of one input; a list, a
            data set of PyTorch, whatever can be gone through. What can be gone through only once,
            as a generator, is kept in memory.
        form: of the model.
        columns: which columns are text and labels.
        labelled: whether labels are wanted.

    Raises:
        BatchError: the rows do not fit the model.
    """
    form = SampleForm.of(form) if isinstance(form, ArtifactDescription) else form
    kept = list(rows) if isinstance(rows, Iterator) else rows

    def numbered() -> Iterator[Row]:
        for number, row in enumerate(kept):
            yield f"row {number}", _mapping(f"row {number}", row, form)

    return table_source(Table("the data", numbered), form, columns or Columns(), labelled=labelled)


def read_rows(
    rows: Iterable[Any], form: SampleForm | ArtifactDescription, columns: Columns | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return inputs and labels of rows, as ``Trainer.fit`` and ``Trainer.evaluate`` take them.

    Raises:
        BatchError: the rows do not fit the model.
    """
    form = SampleForm.of(form) if isinstance(form, ArtifactDescription) else form
    arrays = rows_source(rows, form, columns).whole(form, labelled=True)
    labels = arrays.pop(LABELS, None)
    return arrays, labels


def _mapping(place: str, row: Any, form: SampleForm) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if isinstance(row, tuple | list) and len(row) == 2 and len(form.inputs) == 1:
        return {form.inputs[0].name: row[0], LABELS: row[1]}
    raise BatchError(
        f"{place} is a {type(row).__name__}; give mappings of the columns, or (input, label) for a "
        "model of one input"
    )

"""A table as a model's samples: text through a tokenizer, other columns by the inputs' names."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.columns import TEXT_COLUMNS, Columns
from pock_tvm.samples.label_values import LabelValues
from pock_tvm.samples.picture_column import PictureColumn
from pock_tvm.samples.source import LABELS, Arrays, Source
from pock_tvm.samples.table_file import Row
from pock_tvm.samples.text_tokens import TextTokens, takes_tokens


@dataclass(frozen=True)
class Table:
    """Rows from anywhere."""

    where: str
    """For messages."""
    rows: Callable[[], Iterable[Row]]
    """Starts at the first row with each call."""
    count: int | None = None
    """Of the rows, None where only reading tells."""
    column: Callable[[str], Iterable[Any]] | None = None
    """The values of one column, where that is cheaper than all rows."""
    folder: Path = Path()
    """Where a ``preprocessor_config.json`` may stand, for pictures in a column."""


def table_source(table: Table, form: SampleForm, columns: Columns, *, labelled: bool) -> Source:
    """Return the samples of a table.

    Its labels are gone through once before anything is made of it: to know them, and to count.

    Args:
        table: the rows.
        form: of the model.
        columns: what the user says about them.
        labelled: whether labels are wanted.

    Raises:
        BatchError: a column is missing, or the labels do not fit the model's head.
    """
    where, rows = table.where, table.rows
    first = next(iter(rows()), None)
    if first is None:
        raise BatchError(f"{where} holds no samples")
    present = list(first[1])
    tokens = _tokens(where, form, columns, present)
    texts = columns.text_columns(present) if tokens else ()
    label = columns.label_column(present)
    wanted = labelled and form.label is not None
    if wanted and label is None and not (tokens and tokens.makes_labels):
        raise BatchError(
            f"{where} has no column {columns.label or 'label'!r}, only {_listed(present)}: name "
            "that of the labels by --label-column"
        )
    values = None
    if wanted and label is not None:
        assert form.label is not None
        values = LabelValues(where, form.label, columns.label_names)
        name = label
        found = table.column(label) if table.column else (row.get(name) for _, row in rows())
        count = values.survey(found)
    else:
        count = table.count if table.count is not None else sum(1 for _ in rows())
    pictures = None if tokens else PictureColumn.among(present, form, table.folder)

    def pieces(most: int) -> Iterator[Arrays]:
        stream = iter(rows())
        while chunk := list(islice(stream, most)):
            places = [place for place, _ in chunk]
            if tokens:
                arrays = tokens.arrays(_texts(chunk, texts))
            elif pictures:
                arrays = pictures.arrays(chunk)
            else:
                arrays = {t.name: _column(chunk, t) for t in form.inputs}
            if values is not None:
                assert label is not None
                arrays[LABELS] = values.array([row.get(label) for _, row in chunk], places)
            yield arrays

    return Source(where, count, pieces, values.names if values else ())


def _tokens(
    where: str, form: SampleForm, columns: Columns, present: Sequence[str]
) -> TextTokens | None:
    """Return the tokenizer, None where the columns are the model's inputs themselves."""
    names = [tensor.name for tensor in form.inputs]
    if columns.tokenizer is None:
        if set(names) <= set(present) or PictureColumn.among(present, form) is not None:
            return None
        if takes_tokens(form):
            raise BatchError(
                f"{where} has the columns {_listed(present)}, and the model takes tokens: give "
                "--tokenizer with the model's tokenizer.json"
            )
        raise BatchError(f"{where} has the columns {_listed(present)}; the model takes {names}")
    if not columns.text_columns(present):
        asked = " and ".join(map(repr, columns.text)) or repr(TEXT_COLUMNS[0])
        raise BatchError(
            f"{where} has no column {asked}, only {_listed(present)}: name that of the text by "
            "--text-column"
        )
    return TextTokens(columns.tokenizer, form)


def _texts(chunk: Sequence[Row], names: Sequence[str]) -> Any:
    found = []
    for place, row in chunk:
        texts = tuple(row.get(name) for name in names)
        if not all(isinstance(text, str) for text in texts):
            raise BatchError(f"{place}: {' and '.join(names)} has to be text")
        found.append(texts if len(texts) > 1 else texts[0])
    return found


def _column(chunk: Sequence[Row], tensor: TensorForm) -> np.ndarray:
    return np.stack([_value(place, row, tensor) for place, row in chunk])


def _value(place: str, row: Mapping[str, Any], tensor: TensorForm) -> np.ndarray:
    try:
        value = np.asarray(row[tensor.name], tensor.dtype)
    except KeyError:
        raise BatchError(f"{place} lacks {tensor.name!r}") from None
    except (TypeError, ValueError, OverflowError):
        raise BatchError(f"{place}: {tensor.name!r} does not hold {tensor.dtype}") from None
    if value.shape != tensor.shape:
        raise BatchError(
            f"{place}: {tensor.name!r} has shape {value.shape}; the model takes {tensor.shape}"
        )
    return value


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))

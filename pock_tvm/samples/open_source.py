"""Tell what a path holds, and open it for a model."""

from pathlib import Path

from pock_tvm.artifact.sample_form import SampleForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.columns import Columns
from pock_tvm.samples.image_folder import image_folder_source
from pock_tvm.samples.npz_file import npz_source
from pock_tvm.samples.saved_dataset import is_saved_dataset, saved_dataset
from pock_tvm.samples.source import Source
from pock_tvm.samples.table import Table, table_source
from pock_tvm.samples.table_file import SUFFIXES, read_rows


def open_source(
    path: Path, form: SampleForm, columns: Columns | None = None, *, labelled: bool = True
) -> Source:
    """Open a table, a data set of ``datasets``, a folder of pictures, or an ``.npz``.

    Args:
        path: of the file or folder.
        form: of the model.
        columns: what the user says about a table.
        labelled: whether labels are wanted.

    Raises:
        BatchError: it cannot be read, or holds nothing that the model takes.
    """
    columns = columns or Columns()
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return table_source(
            Table(str(path), lambda: read_rows(path), folder=path.parent),
            form,
            columns,
            labelled=labelled,
        )
    if is_saved_dataset(path):
        return table_source(saved_dataset(path, columns.split), form, columns, labelled=labelled)
    if columns != Columns():
        raise BatchError(
            f"{path} is no table: --tokenizer, --text-column, --label-column and --label-names are "
            "for .csv, .tsv, .jsonl and saved data sets"
        )
    if path.is_dir():
        return image_folder_source(path, form, labelled=labelled)
    return npz_source(path)

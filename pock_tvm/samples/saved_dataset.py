"""What ``save_to_disk`` of Hugging Face's ``datasets`` wrote: its Arrow files are mapped.

Nothing of the data set is executed: what stands in the folder is columns and their types.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pock_tvm.errors import BatchError
from pock_tvm.samples.table import Table
from pock_tvm.samples.table_file import Row

_ONE, _SEVERAL = "dataset_info.json", "dataset_dict.json"


def is_saved_dataset(folder: Path) -> bool:
    """Say whether ``save_to_disk`` wrote a folder."""
    return (folder / _SEVERAL).is_file() or (
        (folder / _ONE).is_file() and (folder / "state.json").is_file()
    )


def saved_dataset(folder: Path, split: str | None = None) -> Table:
    """Open a data set as a table.

    Args:
        folder: that ``save_to_disk`` was given.
        split: which one of several.

    Raises:
        BatchError: it cannot be read, or it is left open which split is meant.
    """
    try:
        import datasets
    except ImportError:
        raise BatchError(f"{folder} needs datasets: pip install 'pock-tvm[datasets]'") from None
    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise BatchError(f"cannot read the data set {folder}: {why}") from None
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            asked = f"has no split {split!r}" if split else "has several splits"
            raise BatchError(f"{folder} {asked}; give --split, one of {', '.join(loaded)}")
        loaded = loaded[split]
    elif split is not None:
        raise BatchError(f"{folder} has no splits; leave --split out")

    def rows() -> Iterator[Row]:
        for number, row in enumerate(loaded):
            yield f"{folder}, row {number}", row

    def column(name: str) -> Iterable[Any]:
        return (row[name] for row in loaded.select_columns([name]))

    return Table(str(folder), rows, len(loaded), column, folder)

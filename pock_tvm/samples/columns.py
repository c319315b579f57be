"""Which columns of a table are text and labels, and what turns them into numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LABEL_COLUMNS = ("labels", "label")
TEXT_COLUMNS = ("text", "sentence")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the user says about a table: a CSV or JSONL file, a data set, rows from Python."""

    tokenizer: Path | None = None
    """A ``tokenizer.json``: the text is given to the model as its tokens."""
    text: tuple[str, ...] = ()
    """The column of the text; two, where the model compares two texts."""
    label: str | None = None
    """The column of the labels."""
    label_names: tuple[str, ...] = ()
    """Labels written as words, in the order of the model's outputs."""
    split: str | None = None
    """Of a data set that has several."""

    def label_column(self, present: Sequence[str]) -> str | None:
        """Return the column of the labels; None where there is none."""
        if self.label is not None:
            return self.label if self.label in present else None
        return next((name for name in LABEL_COLUMNS if name in present), None)

    def text_columns(self, present: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of the text; empty where there are none."""
        if self.text:
            return self.text if set(self.text) <= set(present) else ()
        return next(((name,) for name in TEXT_COLUMNS if name in present), ())

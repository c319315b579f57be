"""Labels as people write them, as the numbers that a loss takes."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pock_tvm.artifact.sample_form import TensorForm
from pock_tvm.errors import BatchError


class LabelValues:
    """Reads the labels of one source: whole numbers, names of classes, or measured values."""

    def __init__(self, where: str, form: TensorForm, names: Sequence[str] = ()) -> None:
        self._where, self._form = where, form
        self._names = list(names)
        self._check_names()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, where labels are looked up among names."""
        return tuple(self._names)

    def survey(self, values: Iterable[Any]) -> int:
        """Look at all labels; where they are words, learn their names. Return how many there are.

        Raises:
            BatchError: the words are not as many as the model has outputs: their order is open.
        """
        count, words = 0, set()
        for value in values:
            count += 1
            if isinstance(value, str) and value and not _is_number(value):
                words.add(value)
        if not words or self._names or not self._of_classes:
            return count
        limit, listed = self._form.limit, sorted(words)
        if limit is not None and len(listed) > limit:
            raise BatchError(f"{self._where} has {_too_many(len(listed), limit)}")
        if limit is not None and len(listed) < limit:
            head = f", or compile with --head {len(listed)}" if len(listed) > 1 else ""
            raise BatchError(
                f"{self._where} has the labels {_some(listed)}, and the model's head has {limit} "
                f"outputs: give --label-names in their order{head}"
            )
        self._names = listed
        return count

    def array(self, values: Sequence[Any], places: Sequence[str]) -> np.ndarray:
        """Return labels as numbers.

        Args:
            values: as they were read.
            places: where each stands, for messages.

        Raises:
            BatchError: a label is missing, or is none of the names.
        """
        numbers = [self._number(v, place) for v, place in zip(values, places, strict=True)]
        try:
            array = np.array(numbers, self._form.dtype)
        except (ValueError, OverflowError):
            raise BatchError(f"{places[0]}: the labels have different lengths") from None
        return (
            array.reshape(len(numbers), *self._form.shape)
            if array.ndim == 1 and (self._form.shape == (1,))
            else array
        )

    @property
    def _of_classes(self) -> bool:
        return self._form.dtype in ("int32", "int64")

    def _number(self, value: Any, place: str) -> Any:
        if value is None or value == "":
            raise BatchError(f"{place} has no label")
        if isinstance(value, str) and self._names:
            if value in self._names:
                return self._names.index(value)
            raise BatchError(f"{place} has the label {value!r}; the names are {_some(self._names)}")
        if isinstance(value, (list, tuple, np.ndarray)):
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise BatchError(
                f"{place} has the label {value!r}, which is no number; give --label-names"
            ) from None
        if not self._of_classes:
            return number
        if number != int(number):
            raise BatchError(f"{place} has the label {value!r}; a class is a whole number")
        return int(number)

    def _check_names(self) -> None:
        if len(set(self._names)) != len(self._names):
            raise BatchError("--label-names gives a name twice")
        limit = self._form.limit
        if limit is not None and len(self._names) > limit:
            raise BatchError(f"--label-names gives {_too_many(len(self._names), limit)}")


def _too_many(count: int, limit: int) -> str:
    return (
        f"{count} classes, and the model's head has {limit} outputs: compile it with a new head, "
        f"--head {count}"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _some(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)})"

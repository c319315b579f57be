"""Samples that are read piece by piece, so that no more than a piece has to be in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pock_tvm.artifact.sample_form import SampleForm
from pock_tvm.errors import BatchError

LABELS = "labels"
PIECE = 256
"""Samples read at a time, where all of them are kept."""

Arrays = dict[str, np.ndarray]
"""By the names of a model's inputs and, where there are labels, ``labels``."""


@dataclass(frozen=True)
class Source:
    """One data file or folder, opened for one model."""

    where: str
    """For messages."""
    count: int | None
    """Samples, None where only reading tells."""
    pieces: Callable[[int], Iterator[Arrays]]
    """Called with the most samples that a piece may have; each call starts anew."""
    classes: tuple[str, ...] = ()
    """The names of the classes by number, where the source has names."""

    def checked(self, form: SampleForm, rows: int, *, labelled: bool) -> Iterator[Arrays]:
        """Yield pieces that fit the model, in its dtypes.

        Args:
            form: of the model.
            rows: the most samples of a piece.
            labelled: with labels, where the loss takes some; else without.

        Raises:
            BatchError: an input or the labels are missing, or a value does not fit.
        """
        tensors = {tensor.name: tensor for tensor in form.inputs}
        first = 0
        for piece in self.pieces(rows):
            labels = piece.pop(LABELS, None)
            if set(piece) != set(tensors):
                raise BatchError(
                    f"{self.where} holds the inputs {sorted(piece)}; "
                    f"the model takes {list(tensors)}"
                )
            found = {name: tensors[name].checked(piece[name], first) for name in tensors}
            if labelled and form.label is not None:
                if labels is None:
                    raise BatchError(
                        f"{self.where} holds no array {LABELS!r}, only {sorted(piece)}"
                    )
                found[LABELS] = form.label.checked(labels, first)
            yield found
            first += len(next(iter(found.values())))

    def whole(self, form: SampleForm, *, labelled: bool) -> Arrays:
        """Return all samples at once."""
        pieces = list(self.checked(form, PIECE, labelled=labelled))
        if not pieces:
            raise BatchError(f"{self.where} holds no samples")
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

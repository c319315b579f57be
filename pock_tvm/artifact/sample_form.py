"""What a model takes of one sample: all that a reader of data has to know about it."""

from dataclasses import dataclass

import numpy as np

from pock_tvm.artifact.description import ArtifactDescription, TensorSpec
from pock_tvm.errors import BatchError


@dataclass(frozen=True, kw_only=True)
class TensorForm:
    """One input, or the labels, as the model itself has them."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """Of one sample."""
    limit: int | None = None
    """Valid integers are 0 … limit - 1."""
    ignore: int | None = None
    """The one label outside the limit that is allowed."""

    @classmethod
    def of(cls, tensor: TensorSpec) -> "TensorForm":
        """Return the form of a tensor whose leading axis is the batch."""
        return cls(
            name=tensor.name,
            dtype=tensor.dtype,
            shape=tensor.original_shape[1:],
            limit=tensor.limit,
            ignore=tensor.ignore,
        )

    def checked(self, value: np.ndarray, first: int = 0) -> np.ndarray:
        """Return any number of samples in the dtype of the form; ``first`` numbers the first.

        Raises:
            BatchError: the shape of a sample, the dtype or a value does not fit.
        """
        value = np.asarray(value)
        if value.ndim != len(self.shape) + 1 or value.shape[1:] != self.shape:
            expected = ", ".join(["samples", *map(str, self.shape)])
            raise BatchError(
                f"{self.name!r} has shape {value.shape}; the artifact takes ({expected})"
            )
        value = self._cast(value)
        self._check_range(value, first)
        self._check_numbers(value, first)
        return value

    def _check_numbers(self, value: np.ndarray, first: int) -> None:
        """Refuse what is no number; infinity is left, for masks are made of it."""
        if value.dtype.kind == "f" and np.isnan(np.min(value, initial=0)):
            raise BatchError(
                f"{self._place(np.isnan(value), first)} is nan; take that sample out, or repair it"
            )

    def _place(self, wrong: np.ndarray, first: int) -> str:
        """Name the first element that is wrong."""
        sample, *at = (int(i) for i in np.argwhere(wrong)[0])
        return f"{self.name}[{', '.join(map(str, (first + sample, *at)))}]"

    def _cast(self, value: np.ndarray) -> np.ndarray:
        wanted = np.dtype("uint16" if self.dtype == "bfloat16" else self.dtype)
        if value.dtype == wanted:
            return value
        if wanted.kind in "iu" and value.dtype.kind in "iu":
            limits = np.iinfo(wanted)
            if not value.size or (value.min() >= limits.min and value.max() <= limits.max):
                return value.astype(wanted)
            raise BatchError(f"{self.name!r} holds integers that do not fit {self.dtype}")
        raise BatchError(
            f"{self.name!r} is {value.dtype}; the artifact takes {self.dtype} "
            f"(convert with .astype({self.dtype!r}))"
        )

    def _check_range(self, value: np.ndarray, first: int) -> None:
        if self.limit is None:
            return
        wrong = (value < 0) | (value >= self.limit)
        if self.ignore is not None:
            wrong &= value != self.ignore
        if wrong.any():
            exempt = "" if self.ignore is None else f", or {self.ignore} to ignore"
            head = ""
            if self.name == "labels" and value.max() >= self.limit:
                head = f"; for more classes compile with a new head, --head {value.max() + 1}"
            raise BatchError(
                f"{self._place(wrong, first)} is {value[wrong][0]}; "
                f"valid are 0 to {self.limit - 1}{exempt}{head}"
            )


@dataclass(frozen=True, kw_only=True)
class SampleForm:
    """A model's inputs in the order of its ``forward``, and its labels."""

    inputs: tuple[TensorForm, ...]
    label: TensorForm | None
    """None where the loss takes none."""
    batch: int

    @classmethod
    def of(cls, description: ArtifactDescription) -> "SampleForm":
        """Return what an artifact takes."""
        label = next((t for t in description.tensors if t.role == "label"), None)
        return cls(
            inputs=tuple(TensorForm.of(t) for t in description.tensors if t.role == "input"),
            label=None if label is None else TensorForm.of(label),
            batch=description.batch,
        )

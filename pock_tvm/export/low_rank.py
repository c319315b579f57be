"""What low-rank adaptation made of one weight: its two factors, and the product in their place."""

import math
from dataclasses import dataclass

import numpy as np

from pock_tvm.artifact.merge_lora import merged_weight
from pock_tvm.errors import ArtifactError
from pock_tvm.export.values import check_finite, check_same_tensor

A, B = "#lora_A", "#lora_B"
"""Suffixes of the factors' names in the file."""


@dataclass(frozen=True, kw_only=True)
class LowRankChange:
    """W + alpha / rank · A @ B; the weight itself stays as it was."""

    name: str
    shape: tuple[int, ...]
    """Of the weight, in the model's own layout."""
    a: np.ndarray
    """[in, rank]."""
    b: np.ndarray
    """[rank, out]."""
    rank: int
    alpha: float
    transposed: bool
    """The outputs come first in the weight."""
    kind: str = "lora"

    @property
    def nbytes(self) -> int:
        """Bytes of both factors."""
        return self.a.nbytes + self.b.nbytes

    @property
    def values_count(self) -> int:
        """Numbers in both factors."""
        return self.a.size + self.b.size

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what the file holds."""
        return {self.name + A: self.a, self.name + B: self.b}

    def row(self) -> dict[str, object]:
        """Return what the metadata says."""
        about = {"rank": self.rank, "alpha": self.alpha, "transposed": self.transposed}
        return {"kind": self.kind, "shape": self.shape, **about}

    def check(self) -> None:
        """Refuse what does not fit together; a delta may come from anywhere.

        Raises:
            ArtifactError: the first thing that is wrong.
        """
        wide = [size for size in self.shape if size != 1] or [1]
        inputs, outputs = (self.a.shape or (0,))[0], (self.b.shape or (0,))[-1]
        fits = (
            self.a.shape == (inputs, self.rank)
            and self.b.shape == (self.rank, outputs)
            and len(self.shape) >= 2
            and math.prod(self.shape) == inputs * outputs
            and len(wide) <= 2
            and self.a.dtype == self.b.dtype
            and self.a.dtype.kind == "f"
        )
        if fits and len(wide) == 2:
            fits = wide == ([outputs, inputs] if self.transposed else [inputs, outputs])
        if not fits:
            raise ArtifactError(f"the delta's factors of {self.name!r} do not fit its shape")
        if not math.isfinite(self.alpha):
            raise ArtifactError(f"the delta's alpha of {self.name!r} is {self.alpha}")
        check_finite(self.name, self.a, self.b)

    def check_base(self, before: np.ndarray) -> None:
        """Refuse a tensor of another shape or dtype."""
        check_same_tensor(self.name, before, self.shape, self.a.dtype)

    def apply(self, before: np.ndarray) -> np.ndarray:
        """Return the weight with the product of the factors in it.

        Raises:
            ArtifactError: shape or dtype are not those of the change, or the sum overflows.
        """
        self.check_base(before)
        self.check()
        scale = self.alpha / self.rank
        with np.errstate(over="ignore"):
            merged = merged_weight(before, self.a, self.b, scale=scale, transposed=self.transposed)
        check_finite(self.name, merged)
        return merged

"""Checks that every kind of change makes of the numbers it brings."""

import numpy as np

from pock_tvm.errors import ArtifactError


def check_finite(name: str, *values: np.ndarray) -> None:
    """Refuse NaN and infinities: no training that is worth a file ends in them.

    Raises:
        ArtifactError: there are some.
    """
    bad = sum(int(np.count_nonzero(~np.isfinite(v))) for v in values if v.dtype.kind == "f")
    if bad:
        raise ArtifactError(
            f"the delta's change of {name!r} has {bad} values that are NaN or infinite; "
            "export a checkpoint of before the training diverged"
        )


def check_same_tensor(
    name: str, before: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
) -> None:
    """Refuse a tensor that a change was not made for.

    Raises:
        ArtifactError: its shape or dtype differs.
    """
    if before.shape != shape or before.dtype != dtype:
        raise ArtifactError(
            f"tensor {name!r} is {before.dtype.name}{list(before.shape)}; "
            f"the delta changes {dtype.name}{list(shape)}"
        )

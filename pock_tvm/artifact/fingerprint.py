"""A hash over named tensors: how a file of weights is recognised, whatever format it is in."""

import hashlib
from collections.abc import Mapping

import numpy as np


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Hash names, dtypes, shapes and bits, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        row = (name, value.dtype.name, *map(str, tensors[name].shape))
        digest.update(f"{len(row)} {' '.join(row)} {value.nbytes}\n".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()

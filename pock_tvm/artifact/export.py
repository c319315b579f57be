"""Write the trained weights as the model that came in had them."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pock_tvm.artifact.description import ITEM_BYTES, ArtifactDescription, TensorSpec
from pock_tvm.artifact.safetensors_header import file_start, header_json
from pock_tvm.errors import ArtifactError

_EXPORTED = ("weight", "statistic")


def original_layout_of(tensor: TensorSpec, stored: np.ndarray) -> np.ndarray:
    """Undo the permutation that brought a tensor into stored form."""
    return stored if tensor.axes is None else stored.transpose(np.argsort(tensor.axes))


def export_weights(
    description: ArtifactDescription,
    view: Callable[[TensorSpec], np.ndarray],
    path: str | os.PathLike[str],
) -> None:
    """Write weights and statistics to a new file, sync it, then rename it over ``path``.

    Raises:
        ArtifactError: the file cannot be written; what stood there before is kept.
    """
    exported = [tensor for tensor in description.tensors if tensor.role in _EXPORTED]
    exported.sort(key=lambda tensor: -ITEM_BYTES[tensor.dtype])  # aligned without padding
    rows, end = [], 0
    for tensor in exported:
        rows.append(replace(tensor, shape=tensor.original_shape, axes=None, offset=end))
        end += tensor.nbytes
    header = header_json([(rows, end)], {"format": "pt", "model": description.model})
    final = Path(path)
    fresh = final.with_name(f"{final.name}.partial")
    try:
        with fresh.open("wb") as file:
            file.write(file_start(header))
            for tensor in exported:
                file.write(np.ascontiguousarray(original_layout_of(tensor, view(tensor))).data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(final)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ArtifactError(f"cannot write {final}: {error.strerror}") from None

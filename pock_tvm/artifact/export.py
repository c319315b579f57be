"""Write the trained weights as the model that came in had them."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pock_tvm.artifact.description import ITEM_BYTES, ArtifactDescription, TensorSpec
from pock_tvm.artifact.fresh_file import fresh_file
from pock_tvm.artifact.merge_lora import merge_lora
from pock_tvm.artifact.safetensors_header import DTYPE_CODES, file_start, header_json
from pock_tvm.errors import BatchError, UnknownNameError

_EXPORTED = ("weight", "statistic")


def original_layout_of(tensor: TensorSpec, stored: np.ndarray) -> np.ndarray:
    """Undo the cut and the permutation that brought a tensor into stored form."""
    if tensor.panel is not None:
        stored = np.moveaxis(stored, 0, -2).reshape(*stored.shape[1:-1], -1)
    return stored if tensor.axes is None else stored.transpose(np.argsort(tensor.axes))


def stored_weights(
    description: ArtifactDescription, weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Bring values of weights that learn into stored form.

    Raises:
        UnknownNameError: the artifact has no such weight, or it does not learn there.
        BatchError: a shape or dtype does not fit.
    """
    learning = {t.name: t for t in description.in_region("state") if t.role in _EXPORTED}
    stored = {}
    for name, value in weights.items():
        if name not in learning:
            raise UnknownNameError(
                f"{name!r} does not learn in the artifact of {description.model}; compile it with "
                "an update that names it"
            )
        tensor = learning[name]
        if value.shape != tensor.original_shape or value.dtype.name != tensor.dtype:
            raise BatchError(
                f"{name!r} is {value.dtype}{value.shape}; the artifact takes "
                f"{tensor.dtype}{tensor.original_shape}"
            )
        stored[name] = value if tensor.axes is None else value.transpose(tensor.axes)
    return stored


def original_tensors(
    description: ArtifactDescription, view: Callable[[TensorSpec], np.ndarray]
) -> dict[str, np.ndarray]:
    """Return weights and statistics by the model's own names and in its own layouts.

    Low-rank factors are merged into the weights that they adapt.

    Args:
        description: of the artifact.
        view: gives a tensor's values as stored.
    """
    return merge_lora(description.update, learned_tensors(description, view))


def learned_tensors(
    description: ArtifactDescription, view: Callable[[TensorSpec], np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the same with the factors apart, by their own names, and the weights without them."""
    return {
        tensor.name: original_layout_of(tensor, view(tensor))
        for tensor in description.tensors
        if tensor.role in _EXPORTED
    }


def export_weights(
    description: ArtifactDescription,
    view: Callable[[TensorSpec], np.ndarray],
    path: str | os.PathLike[str],
    unused: Path | None = None,
) -> None:
    """Write weights and statistics to a new file, sync it, then rename it over ``path``.

    Args:
        description: of the artifact.
        view: gives a tensor's values as stored.
        path: of the new file.
        unused: the artifact's file of what the steps do not read as the model has it.

    Raises:
        ArtifactError: the file cannot be written; what stood there before is kept.
    """
    dtypes = {tensor.name: tensor.dtype for tensor in description.tensors}
    about = {"format": "pt", "model": description.model}
    tensors = _read_checked(unused) if unused else {}
    write_tensors({**tensors, **original_tensors(description, view)}, dtypes, about, path)


def _read_checked(path: Path) -> dict[str, np.ndarray]:
    """Read a file of the artifact, whose hash was compared when it was loaded."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    names = {code: name for name, code in DTYPE_CODES.items()}
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, end = (start + offset for offset in entry["data_offsets"])
            values = np.frombuffer(content[first:end], names[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_tensors(
    tensors: Mapping[str, np.ndarray],
    dtypes: Mapping[str, str],
    metadata: Mapping[str, str],
    path: str | os.PathLike[str],
) -> None:
    """Write tensors as a safetensors file; numpy's own dtype where ``dtypes`` names no other.

    Raises:
        ArtifactError: the file cannot be written; what stood there before is kept.
    """
    exported = sorted(
        (
            TensorSpec(
                name=name,
                dtype=dtypes.get(name, value.dtype.name),
                shape=value.shape,
                region="frozen",
                offset=0,
                role="weight",
            )
            for name, value in tensors.items()
        ),
        key=lambda tensor: -ITEM_BYTES[tensor.dtype],  # aligned without padding
    )
    rows, end = [], 0
    for tensor in exported:
        rows.append(replace(tensor, offset=end))
        end += tensor.nbytes
    header = header_json([(rows, end)], metadata)
    with fresh_file(path) as fresh, fresh.open("wb") as file:
        file.write(file_start(header))
        for tensor in exported:
            file.write(np.ascontiguousarray(tensors[tensor.name]).reshape(-1).view(np.uint8).data)

"""``.pockdata``: samples packed for the standalone executable; ``pock_data.c`` draws the layout."""

import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pock_tvm.artifact.batch import (
    Inputs,
    by_name,
    check_count,
    check_labels,
    label_tensor,
    stored_samples,
)
from pock_tvm.artifact.c_tables import record_bytes, record_layout
from pock_tvm.artifact.description import ArtifactDescription, TensorSpec
from pock_tvm.errors import ArtifactError, BatchError

_MAGIC, _VERSION = b"POCKDATA", 1
_HEAD = struct.Struct("<8sIIQQ")
_HEADER_BYTES = 64
_CHUNK_BYTES = 1 << 24


def write_dataset(
    path: str | os.PathLike[str],
    description: ArtifactDescription,
    inputs: Inputs,
    labels: np.ndarray | None = None,
) -> int:
    """Pack samples in the order in which they are to be drawn; return how many.

    Without labels, the file serves prediction, or a loss that takes none: where there is a place
    for labels it holds zeros.

    Raises:
        BatchError: a name, shape, dtype or value does not fit the model.
        ArtifactError: the file cannot be written.
    """
    tensors = description.sample_tensors
    given = by_name(description, inputs)
    label = label_tensor(description)
    if label is None:
        check_labels(description, labels)
    else:
        zeros = (check_count(given), *label.shape[1:])
        given[label.name] = np.zeros(zeros, label.dtype) if labels is None else labels
    samples = {tensor.name: stored_samples(tensor, given[tensor.name]) for tensor in tensors}
    count = check_count(samples)
    rows = rows_of_a_piece(description)
    pieces = (
        {name: array[start : start + rows] for name, array in samples.items()}
        for start in range(0, count, rows)
    )
    return _write(path, tensors, pieces)


def write_pieces(
    path: str | os.PathLike[str],
    description: ArtifactDescription,
    pieces: Iterable[Mapping[str, np.ndarray]],
    written: Callable[[int], None] = lambda count: None,
) -> int:
    """Pack samples that come piece by piece, in the model's own layouts; return how many.

    Args:
        path: of the file; what stood there stays until all is well.
        description: of the artifact that will read it.
        pieces: arrays by the names of inputs and labels; without labels, these are zeros.
        written: called with the count so far.

    Raises:
        BatchError: a name, shape, dtype or value does not fit the model, or there are no samples.
        ArtifactError: the file cannot be written.
    """
    tensors, label = description.sample_tensors, label_tensor(description)

    def stored() -> Iterator[dict[str, np.ndarray]]:
        done = 0
        for piece in pieces:
            given = dict(piece)
            count = check_count(given)
            if label is not None and label.name not in given:
                given[label.name] = np.zeros((count, *label.shape[1:]), label.dtype)
            yield {tensor.name: stored_samples(tensor, given[tensor.name]) for tensor in tensors}
            done += count
            written(done)

    return _write(path, tensors, stored())


def rows_of_a_piece(description: ArtifactDescription) -> int:
    """Return how many samples are worked on at a time."""
    return max(1, min(1024, _CHUNK_BYTES // record_bytes(description.sample_tensors)))


def _write(
    path: str | os.PathLike[str],
    tensors: tuple[TensorSpec, ...],
    pieces: Iterable[Mapping[str, np.ndarray]],
) -> int:
    """Write to a new file, then rename it."""
    fresh, count = Path(f"{os.fspath(path)}.partial"), 0
    try:
        with fresh.open("w+b") as file:
            file.write(bytes(_HEADER_BYTES))
            for piece in pieces:
                file.write(_records(tensors, piece))
                count += check_count(piece)
            _write_head(file, tensors, count)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ArtifactError(f"cannot write {os.fspath(path)}: {error.strerror}") from None
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return count


def is_dataset(path: Path) -> bool:
    """Say whether a file is a packed one, by its first bytes; without one, by its name."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC or path.suffix == ".pockdata"
    except OSError:
        return path.suffix == ".pockdata"


def read_dataset(
    path: str | os.PathLike[str], description: ArtifactDescription
) -> dict[str, np.ndarray]:
    """Read all samples back, in stored layout, by the names of inputs and labels.

    Raises:
        ArtifactError: the file is damaged or for a model with other inputs.
    """
    where, tensors = os.fspath(path), description.sample_tensors
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {where}: {error.strerror}") from None
    if len(raw) < _HEADER_BYTES or not raw.startswith(_MAGIC):
        raise ArtifactError(f"{where} is not a .pockdata file")
    _, version, layout, count, size = _HEAD.unpack_from(raw)
    if version != _VERSION:
        raise ArtifactError(f"{where} has version {version}, not {_VERSION}; write it again")
    if (layout, size) != (record_layout(tensors), record_bytes(tensors)):
        raise ArtifactError(f"{where} was written for a model with other inputs or labels")
    if len(raw) != _HEADER_BYTES + count * size:
        raise ArtifactError(f"{where} is truncated: {len(raw)} bytes for {count} records")
    digest = hashlib.sha256(raw[: _HEAD.size])
    digest.update(memoryview(raw)[_HEADER_BYTES:])
    if digest.digest() != raw[_HEAD.size : _HEADER_BYTES]:
        raise ArtifactError(f"{where} is damaged: its SHA-256 does not match")
    records = np.frombuffer(raw, np.uint8, offset=_HEADER_BYTES).reshape(count, size)
    samples, at = {}, 0
    for tensor in tensors:
        width = tensor.nbytes // tensor.shape[0]
        dtype = "uint16" if tensor.dtype == "bfloat16" else tensor.dtype
        part = np.ascontiguousarray(records[:, at : at + width]).view(dtype)
        samples[tensor.name] = part.reshape(count, *tensor.shape[1:])
        at += width
    return samples


def _write_head(file: BinaryIO, tensors: tuple[TensorSpec, ...], count: int) -> None:
    """Fill in the header; its hash starts with the count, so the records are read once more."""
    if not count:
        raise BatchError("there are no samples to pack")
    size = record_bytes(tensors)
    head = _HEAD.pack(_MAGIC, _VERSION, record_layout(tensors), count, size)
    digest = hashlib.sha256(head)
    file.seek(_HEADER_BYTES)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    file.write(head + digest.digest())


def _records(tensors: tuple[TensorSpec, ...], samples: Mapping[str, np.ndarray]) -> bytes:
    parts = [
        np.ascontiguousarray(samples[t.name]).reshape(len(samples[t.name]), -1).view(np.uint8)
        for t in tensors
    ]
    return np.concatenate(parts, axis=1).tobytes()

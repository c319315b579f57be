"""Arrays by name from an ``.npz``: at once, or some rows at a time."""

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from pock_tvm.artifact.batch import check_count
from pock_tvm.errors import BatchError
from pock_tvm.samples.source import Arrays, Source


def read_npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a file that ``numpy.savez`` wrote; nothing is unpickled.

    Raises:
        BatchError: the file cannot be read, or is something else.
    """
    with _explained(path), path.open("rb") as stream:  # numpy leaves a damaged file open
        file = np.load(stream, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise BatchError(f"{path} is a single array; write arrays by name with numpy.savez")
        return {name: file[name] for name in file.files}


def npz_source(path: Path) -> Source:
    """Return the samples of an ``.npz`` of one array per model input, and ``labels``.

    Raises:
        BatchError: the file cannot be read, or the arrays differ in length.
    """
    with _explained(path), path.open("rb") as stream:
        if stream.read(6) == b"\x93NUMPY":
            raise BatchError(f"{path} is a single array; write arrays by name with numpy.savez")
        with zipfile.ZipFile(stream) as archive, ExitStack() as stack:
            found = {name: _Rows(m, stack) for name, m in _members(archive)}
            empty = {name: np.empty((rows.shape or (1,))[:1]) for name, rows in found.items()}
    if not found:
        raise BatchError(f"{path} holds no arrays")
    if any(not len(array) for array in empty.values()):
        raise BatchError(f"{path} holds no samples")
    return Source(str(path), check_count(empty), lambda most: _pieces(path, most))


def _pieces(path: Path, most: int) -> Iterator[Arrays]:
    with _explained(path), ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(path.open("rb"))))
        arrays = {name: _Rows(member, stack) for name, member in _members(archive)}
        while True:
            piece = {name: rows.take(most) for name, rows in arrays.items()}
            if not any(map(len, piece.values())):
                return
            yield piece


class _Rows:
    """One array of the archive, unpacked as it is read."""

    def __init__(self, member: Any, stack: ExitStack) -> None:
        self._file: IO[bytes] = stack.enter_context(member())
        version = np.lib.format.read_magic(self._file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        self.shape, by_columns, self._dtype = read(self._file)
        if self._dtype.hasobject:
            raise ValueError("objects")
        self._done = 0
        self._whole: np.ndarray | None = None
        if by_columns and len(self.shape) > 1:
            raw = self._file.read()
            self._whole = np.frombuffer(raw, self._dtype).reshape(self.shape, order="F")

    def take(self, most: int) -> np.ndarray:
        count = min(most, self.shape[0] - self._done)
        shape = (count, *self.shape[1:])
        self._done += count
        if self._whole is not None:
            return self._whole[self._done - count : self._done]
        raw = self._file.read(int(np.prod(shape)) * self._dtype.itemsize)
        return np.frombuffer(raw, self._dtype).reshape(shape)


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, Any]]:
    for name in archive.namelist():
        yield name.removesuffix(".npy"), lambda name=name: archive.open(name)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BatchError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BatchError(
            f"{path} is not an .npz of plain arrays; write it with numpy.savez"
        ) from error

"""Arrays by name from an ``.npz``."""

import zipfile
from pathlib import Path

import numpy as np

from pock_tvm.errors import BatchError


def read_npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a file that ``numpy.savez`` wrote; nothing is unpickled.

    Raises:
        BatchError: the file cannot be read, or is something else.
    """
    try:
        with path.open("rb") as stream:  # numpy leaves a damaged file open
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise BatchError(f"{path} is a single array; write arrays by name with numpy.savez")
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise BatchError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BatchError(
            f"{path} is not an .npz of plain arrays; write it with numpy.savez"
        ) from error

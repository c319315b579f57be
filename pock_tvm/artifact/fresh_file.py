"""Write a file beside its place, sync it, then rename it there: it is whole, or the old one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pock_tvm.errors import ArtifactError


@contextlib.contextmanager
def fresh_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to; it takes the place of ``path`` if the block succeeds.

    Raises:
        ArtifactError: the file cannot be written; what stood there before is kept.
    """
    final = Path(path)
    fresh = final.with_name(f"{final.name}.partial")
    try:
        yield fresh
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(final)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(f"cannot write {final}: {reason}") from None
    finally:
        fresh.unlink(missing_ok=True)

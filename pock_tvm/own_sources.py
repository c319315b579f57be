"""A hash of our own sources: what they decided once is decided anew by others."""

import functools
import hashlib
from pathlib import Path

import pock_tvm

STAGES = ("relay_passes", "schedules", "targets")
"""What stands beside the package, behind links: all that turns a kernel into machine code."""

_SUFFIXES = (".py", ".c", ".h")


@functools.cache
def sources_sha256(layers: tuple[str, ...] = ("", *STAGES)) -> str:
    """Hash the sources of some layers; ``""`` is the package, without what its links lead to."""
    digest = hashlib.sha256()
    root = Path(pock_tvm.__file__).resolve().parent
    for layer in layers:
        folder = (root / layer).resolve()
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SUFFIXES:
                digest.update(f"{layer} {path.relative_to(folder)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()

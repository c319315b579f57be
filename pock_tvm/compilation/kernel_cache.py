"""Compiled kernels of earlier compilations, by what they were compiled from.

A kernel's key is the SHA-256 of all that decides its machine code: the kernel before it is
scheduled, its name, whether it writes where it reads, what a tuner decided about it, the target,
the versions of TVM and LLVM, and our own sources of passes, schedules and targets. Whatever changes
is another key; nothing in the cache is ever out of date.

The folder is ``$POCK_CACHE``, or else ``pock_tvm`` in the user's cache folder; ``POCK_CACHE=off``
goes without. A file is written beside its place and renamed, so several compilations may share the
folder, and it carries its own hash: one that was damaged is compiled again.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import tvm
from tvm import tirx

from pock_tvm.artifact.artifact_cache import FOLDER as ARTIFACTS
from pock_tvm.artifact.artifact_cache import user_cache_folder
from pock_tvm.own_sources import STAGES, sources_sha256
from pock_tvm.relay_passes.build_object import CompiledKernel
from pock_tvm.relay_passes.share_kernels import kernel_text
from pock_tvm.schedules.cpu.decision import Decision
from pock_tvm.targets import TargetSpec

MOST_BYTES = 1 << 30
"""What the folder may hold; the files that were read longest ago go first."""

_SHA_BYTES, _COUNT_BYTES = 32, 8


class KernelCache:
    """The kernels for one target in a folder of the user."""

    def __init__(self, folder: Path, spec: TargetSpec) -> None:
        self.folder = folder
        self._about = json.dumps(
            {
                "spec": asdict(spec),
                "target": str(spec.build()),
                "tvm": tvm.__version__,
                "llvm": tvm.target.codegen.llvm_version_major(),
                "sources": sources_sha256(STAGES),
            },
            sort_keys=True,
            default=str,
        )

    @classmethod
    def of_user(cls, spec: TargetSpec) -> "KernelCache | None":
        """Return the user's cache; None where it is off, or the folder is not the user's alone."""
        folder = user_cache_folder()
        if folder is None:
            return None
        return cls(folder, spec)

    def key(
        self,
        name: str,
        kernel: tirx.PrimFunc,
        *,
        in_place: bool,
        decision: Decision | None = None,
    ) -> str:
        """Return the key of a kernel as it comes from the graph."""
        parts = (self._about, name, str(in_place), str(decision), kernel_text(kernel))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def find(self, key: str) -> CompiledKernel | None:
        """Return a kernel; None where it is not there, or damaged."""
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        digest, content = raw[:_SHA_BYTES], raw[_SHA_BYTES:]
        if len(content) <= _COUNT_BYTES or _digest(key, content) != digest:
            return None
        with contextlib.suppress(OSError):  # somebody made room meanwhile
            os.utime(path)
        return CompiledKernel(
            machine_code=content[_COUNT_BYTES:],
            workspace_bytes=int.from_bytes(content[:_COUNT_BYTES], "little"),
        )

    def keep(self, key: str, kernel: CompiledKernel) -> None:
        """Write a kernel; a folder that cannot be written is no reason to fail."""
        content = kernel.workspace_bytes.to_bytes(_COUNT_BYTES, "little") + kernel.machine_code
        path = self._path(key)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            handle, fresh = tempfile.mkstemp(dir=path.parent, suffix=".partial")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_digest(key, content) + content)
                Path(fresh).replace(path)
            except BaseException:
                Path(fresh).unlink(missing_ok=True)
                raise
        except OSError:
            return

    def make_room(self, most_bytes: int = MOST_BYTES) -> None:
        """Delete what was read longest ago, until the rest fits."""
        found = []
        for path in self.folder.glob("*/*"):
            if path.parent.name == ARTIFACTS:
                continue
            try:
                about = path.stat()
            except OSError:
                continue  # gone already
            found.append((about.st_mtime, about.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found, key=lambda row: row[0]):
            if total <= most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()

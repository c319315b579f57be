"""Read an artifact; check all of it before any of it is used. Imports no tvm, torch or zig."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pock_tvm.artifact import machine, manifest
from pock_tvm.artifact.description import ArtifactDescription
from pock_tvm.errors import ArtifactError

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An artifact whose every file has been checked."""

    directory: Path
    description: ArtifactDescription
    """Without the plan: that stands in a file of its own, see :meth:`plan`."""
    artifact_id: str
    files: Mapping[str, int]
    """Bytes of each file."""
    cpu_features: tuple[str, ...]

    @property
    def weights(self) -> Path:
        """The initial weights, an ordinary safetensors file."""
        return self.directory / "weights.safetensors"

    @property
    def unused(self) -> Path | None:
        """The model's tensors that no entry point reads; None where there are none."""
        return self._optional("unused.safetensors")

    @property
    def executable(self) -> Path | None:
        """The standalone ``pock_train``; None where it was not built."""
        return self._optional("pock_train")

    @property
    def library(self) -> Path | None:
        """The shared library; None where it was not built. See :meth:`runnable_library`."""
        return self._optional("libpock_model.so") or self._optional("libpock_model.dylib")

    def runnable_library(self) -> Path:
        """Return the library if this machine can run it.

        Raises:
            ArtifactError: it was built for another machine, or not at all.
        """
        options = self.description.tvm_options
        problem = machine.why_not_here(options, list(self.cpu_features))
        if problem:
            raise ArtifactError(
                f"{self.directory} was compiled for {self.description.target!r} and cannot run "
                f"here: {problem}; compile it with --target host"
            )
        if self.library is None:
            raise ArtifactError(
                f"{self.directory} holds no libpock_model.so; compile it with --target host"
            )
        return self.library

    def plan(self) -> dict[str, Any]:
        """Read every kernel call, tensor, offset and life time of each entry point."""
        return json.loads((self.directory / "plan.json").read_text(encoding="utf-8"))

    def _optional(self, name: str) -> Path | None:
        return self.directory / name if name in self.files else None


def load_artifact(directory: str | os.PathLike[str]) -> Artifact:
    """Read and check the artifact in a folder.

    Raises:
        ArtifactError: the manifest was edited, a file is missing, truncated or changed, or an
            offset breaks a rule of the layout; the message says which.
    """
    folder = Path(directory).absolute()
    path = folder / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is not an artifact: it has no manifest.json") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"cannot read {path}: {error}") from None
    found = manifest.parse(text, str(path))
    description = manifest.restore(found, str(path))
    table = manifest.file_table(found, str(path))
    for name, (nbytes, sha256) in table.files.items():
        _check_file(folder / name, nbytes, sha256)
    return Artifact(
        directory=folder,
        description=description,
        artifact_id=table.artifact_id,
        files={name: nbytes for name, (nbytes, _) in table.files.items()},
        cpu_features=table.cpu_features,
    )


def file_sha256(path: Path) -> str:
    """Hash a file without holding it in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_file(path: Path, nbytes: int, sha256: str) -> None:
    try:
        size = path.stat().st_size
        if size != nbytes:
            raise ArtifactError(
                f"{path} has {size} bytes, the manifest says {nbytes}: it is truncated or changed; "
                "copy the artifact again"
            )
        found = file_sha256(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; copy the artifact again") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from None
    if found != sha256:
        raise ArtifactError(
            f"{path} is damaged: its SHA-256 is not the manifest's; copy the artifact again"
        )

"""Whole artifacts of earlier compilations, by all that went into them.

A folder of the user's, ``<cache>/artifacts/<key>/`` with the artifact and the compiler's report. An
artifact carries the hash of each of its files, and is checked before and after it is copied; one
that was damaged, or that another version wrote, is compiled again.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pock_tvm.artifact.load import Artifact, load_artifact
from pock_tvm.artifact.write import refuse_foreign_folder, replaced_folder
from pock_tvm.errors import ArtifactError

VARIABLE = "POCK_CACHE"
MOST_BYTES = 1 << 30
"""What all artifacts together may take; those that were used longest ago go first."""

FOLDER = "artifacts"
_ARTIFACT, _REPORT = "artifact", "report.json"


def user_cache_folder() -> Path | None:
    """Return the user's cache; None where it is off, or the folder is not the user's alone."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "off":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(chosen) if chosen else Path(home) / "pock_tvm"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    # The code in it will run: nobody else may have put it there.
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        return None
    return folder


class ArtifactCache:
    """The artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    @classmethod
    def of_user(cls) -> "ArtifactCache | None":
        """Return the user's cache; None where there is none."""
        folder = user_cache_folder()
        return None if folder is None else cls(folder)

    def holds(self, key: str) -> bool:
        """Tell whether there is an artifact of that key, damaged or not."""
        return (self._folder / key).is_dir()

    def copy_to(self, output: Path, key: str) -> tuple[Artifact, dict[str, Any]] | None:
        """Write the artifact of a key to ``output``; return it with its report, None if not there.

        Raises:
            ArtifactError: ``output`` exists and is not an artifact, or cannot be written.
        """
        kept, final = self._folder / key, output.absolute()
        refuse_foreign_folder(final)
        try:
            report = json.loads((kept / _REPORT).read_text(encoding="utf-8"))
            load_artifact(kept / _ARTIFACT)
        except (OSError, ValueError, ArtifactError):
            shutil.rmtree(kept, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):  # somebody made room meanwhile
            os.utime(kept)
        with replaced_folder(final) as fresh:
            shutil.copytree(kept / _ARTIFACT, fresh, dirs_exist_ok=True)
        return load_artifact(final), report

    def keep(self, key: str, artifact: Artifact, report: Mapping[str, Any]) -> None:
        """Keep an artifact; a folder that cannot be written is no reason to fail."""
        if sum(artifact.files.values()) > MOST_BYTES // 2:
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=".partial.", dir=self._folder))
            try:
                shutil.copytree(artifact.directory, fresh / _ARTIFACT)
                (fresh / _REPORT).write_text(json.dumps(report), encoding="utf-8")
                fresh.rename(self._folder / key)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            self.make_room()
        except OSError:
            return

    def make_room(self, most_bytes: int = MOST_BYTES) -> None:
        """Delete what was used longest ago, until the rest fits."""
        found = []
        for kept in self._folder.iterdir():
            files = [path for path in kept.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            found.append((kept.stat().st_mtime, size, kept))
        total = sum(size for _, size, _ in found)
        for _, size, kept in sorted(found, key=lambda row: row[0]):
            if total <= most_bytes:
                return
            shutil.rmtree(kept, ignore_errors=True)
            total -= size

"""Copy what a device lacks: by hash, and from where an interrupted copy stopped."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pock_tvm.artifact.load import file_sha256
from pock_tvm.deploy.connection import Connection
from pock_tvm.deploy.survey import PARTIAL, RemoteFile
from pock_tvm.errors import DeployError

_CHUNK_BYTES = 1 << 16

_RECEIVE = """
folder=$1 name=$2 start=$3 size=$4 wanted=$5 mode=$6
mkdir -p "$folder" && cd "$folder" || exit 1
if [ "$start" = 0 ]; then : >"$name.partial" || exit 1; fi
cat >>"$name.partial" || exit 1
if [ "$(wc -c <"$name.partial")" -lt "$size" ]; then
  echo "only a part of $name has arrived" >&2
  exit 1
fi
if command -v sha256sum >/dev/null; then hash=$(sha256sum <"$name.partial")
else hash=$(shasum -a 256 <"$name.partial"); fi
if [ "${hash%% *}" != "$wanted" ]; then
  rm -f "$name.partial"
  echo "$name arrived damaged" >&2
  exit 1
fi
chmod "$mode" "$name.partial" && mv -f "$name.partial" "$name"
"""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, its bytes that lie on the device, and its bytes in all."""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A file to be copied."""

    name: str
    path: Path
    nbytes: int
    sha256: str
    start: int
    """Bytes that an interrupted copy has brought there already."""

    @property
    def missing(self) -> int:
        """Bytes to be sent."""
        return self.nbytes - self.start


def outgoing(paths: Mapping[str, Path], there: Mapping[str, RemoteFile]) -> list[Outgoing]:
    """Return the files that the device lacks or has otherwise."""
    found = []
    for name, path in paths.items():
        nbytes, sha256 = path.stat().st_size, file_sha256(path)
        if there.get(name) == RemoteFile(nbytes=nbytes, sha256=sha256):
            continue
        partial = there.get(name + PARTIAL)
        start = partial.nbytes if partial and _is_start(path, nbytes, partial) else 0
        found.append(Outgoing(name=name, path=path, nbytes=nbytes, sha256=sha256, start=start))
    return found


def send_files(connection: Connection, files: Sequence[Outgoing], progress: Progress) -> int:
    """Copy files one after another, each to a name of its own until all of it is there.

    Returns:
        How many bytes were sent.

    Raises:
        DeployError: the copy stopped; the next one goes on from there.
    """
    for file in files:
        _send(connection, file, progress)
    return sum(file.missing for file in files)


def _send(connection: Connection, file: Outgoing, progress: Progress) -> None:
    mode = "755" if file.name == "pock_train" else "644"
    numbers = (str(file.start), str(file.nbytes), file.sha256, mode)
    process = connection.start(_RECEIVE, connection.place.path, file.name, *numbers)
    assert process.stdin is not None
    assert process.stderr is not None
    done, torn = file.start, False
    try:
        with file.path.open("rb") as source:
            source.seek(file.start)
            while chunk := source.read(_CHUNK_BYTES):
                process.stdin.write(chunk)
                done += len(chunk)
                progress(file.name, done, file.nbytes)
        process.stdin.close()
    except BrokenPipeError:
        torn = True
    except BaseException:
        process.kill()
        raise
    process.stdin = None  # communicate() would close it again
    _, errors = process.communicate()
    if process.returncode or torn:
        reason = connection.complaint(process.returncode, errors)
        raise DeployError(
            f"the copy of {file.name} stopped: {reason}; the same command goes on from there"
        )


def _is_start(path: Path, nbytes: int, partial: RemoteFile) -> bool:
    """Say whether an interrupted copy holds the start of just this file."""
    if not 0 < partial.nbytes <= nbytes:
        return False
    digest, left = hashlib.sha256(), partial.nbytes
    with path.open("rb") as file:
        while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest() == partial.sha256

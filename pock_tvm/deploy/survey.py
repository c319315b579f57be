"""What a device is and holds, asked in one call, before anything is written."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pock_tvm.artifact.machine import architecture
from pock_tvm.deploy.connection import Connection
from pock_tvm.errors import DeployError

PARTIAL = ".partial"

_SURVEY = """
folder=$1; shift
near=$folder
while [ ! -d "$near" ]; do
  case $near in */*) near=${near%/*} ;; *) near=. ;; esac
  [ -n "$near" ] || near=/
done
echo "machine $(uname -m)"
echo "system $(uname -s)"
echo "space $(df -Pk "$near" | tail -n 1)"
[ -w "$near" ] && echo "writable yes"
for name; do
  for file in "$name" "$name.partial"; do
    [ -f "$folder/$file" ] || continue
    if command -v sha256sum >/dev/null; then hash=$(sha256sum <"$folder/$file")
    else hash=$(shasum -a 256 <"$folder/$file"); fi
    echo "file $(wc -c <"$folder/$file") ${hash%% *} $file"
  done
done
"""

_SAME = {"arm64": "aarch64", "amd64": "x86_64", "armv7": "arm", "armv7a": "arm", "armv7l": "arm"}
_RUNS_TOO = {("aarch64", "arm"), ("armv8l", "arm"), ("x86_64", "i686")}
"""(Device, artifact): the processors of 64 bits that this package knows run the older code too."""

_SPACE = re.compile(r"\s\d+\s+\d+\s+(\d+)\s+\d+%")
_MARGIN_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that lies on the device."""

    nbytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the device answered."""

    machine: str
    system: str
    free_bytes: int | None
    """None where df speaks another language."""
    writable: bool
    files: Mapping[str, RemoteFile]


def survey(connection: Connection, names: Iterable[str]) -> Survey:
    """Ask the device for its kind, its space, and the hashes of files that may lie there already.

    Raises:
        DeployError: it cannot be reached.
    """
    text = connection.run(_SURVEY, connection.place.path, *names).decode(errors="replace")
    facts: dict[str, str] = {}
    files = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "file":
            nbytes, sha256, name = value.split(maxsplit=2)
            files[name] = RemoteFile(nbytes=int(nbytes), sha256=sha256)
        else:
            facts[key] = value.strip()
    free = _SPACE.search(facts.get("space", ""))
    return Survey(
        machine=facts.get("machine", "unknown"),
        system=facts.get("system", "unknown"),
        free_bytes=int(free[1]) * 1024 if free else None,
        writable="writable" in facts,
        files=files,
    )


def check_machine(found: Survey, target: str, tvm_options: Mapping[str, Any], where: str) -> None:
    """Refuse a device of another architecture or system.

    Raises:
        DeployError: the executable cannot run there.
    """
    wanted, machine = (_SAME.get(name, name) for name in (architecture(tvm_options), found.machine))
    triple = str(tvm_options.get("mtriple"))
    system = "Darwin" if "macos" in triple or "apple" in triple else "Linux"
    if (wanted != machine and (machine, wanted) not in _RUNS_TOO) or system != found.system:
        raise DeployError(
            f"{where} is {found.system} on {found.machine}; the artifact was compiled for "
            f"{target}, {system} on {wanted}: compile it for a target that fits"
        )


def check_space(found: Survey, nbytes: int, where: str) -> None:
    """Refuse a place that cannot be written, or has no room.

    Raises:
        DeployError: says how much is missing.
    """
    if not nbytes:
        return
    if not found.writable:
        raise DeployError(f"{where} cannot be written: permission denied")
    needed = nbytes + _MARGIN_BYTES
    if found.free_bytes is not None and found.free_bytes < needed:
        raise DeployError(
            f"{where} has {found.free_bytes} bytes free and {needed} are needed: "
            f"{needed - found.free_bytes} more"
        )

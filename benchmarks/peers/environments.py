"""Make the environments of the peers that cannot share ours.

    python -m benchmarks.peers.environments jax tensorflow

One virtual environment a peer, in ``$POCK_PEERS``, or else ``pock_tvm-peers`` in the user's cache
folder. What stands in ``REQUIREMENTS`` is the version that the results were measured with. An
environment that is there already, with the same requirements, is left alone.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.requirements import REQUIREMENTS

_DONE = "requirements.txt"


def environments_folder() -> Path:
    """Return the folder of all environments."""
    if chosen := os.environ.get("POCK_PEERS"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "pock_tvm-peers"


def python_of(peer: str) -> Path | None:
    """Return the interpreter of a peer's environment, None where it has not been made."""
    folder = environments_folder() / peer
    mark = folder / _DONE
    if not mark.is_file() or mark.read_text(encoding="utf-8") != _wanted(peer):
        return None
    return folder / "bin" / "python"


def make_environment(peer: str) -> Path:
    """Make the environment of a peer where it is missing; return its interpreter."""
    if (found := python_of(peer)) is not None:
        return found
    folder = environments_folder() / peer
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS[peer]], check=True)
    (folder / _DONE).write_text(_wanted(peer), encoding="utf-8")
    return python


def _wanted(peer: str) -> str:
    return "".join(f"{line}\n" for line in REQUIREMENTS[peer])


def main(arguments: list[str]) -> None:
    """Make the environments that are named, all without a name."""
    unknown = sorted(set(arguments) - set(REQUIREMENTS))
    if unknown:
        sys.exit(f"unknown peers {', '.join(unknown)}; known are {', '.join(REQUIREMENTS)}")
    for peer in arguments or REQUIREMENTS:
        print(f"{peer}: {make_environment(peer)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Run scripts on a device: the OpenSSH client, adb, or the shell of this machine.

A script is a constant of this package; what varies reaches it as arguments, quoted, never as text
of the script. The device needs a POSIX shell with sha256sum, as busybox and toybox have them too.
"""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pock_tvm.deploy.place import Place
from pock_tvm.errors import DeployError

_SSH_FAILED = 255
"""Exit code of ssh when the connection fails, not the command."""


class Connection:
    """One device; every call is a process of its own, and nothing stays open between calls."""

    def __init__(self, place: Place, ssh_config: Path | None = None) -> None:
        self.place = place
        self._ssh_config = ssh_config

    def command(self, script: str, *arguments: str) -> list[str]:
        """Return the command of this machine that runs a script on the device."""
        words = ["sh", "-c", script, "sh", *arguments]
        if self.place.scheme == "file":
            return words
        if self.place.scheme == "adb":
            return ["adb", "-s", self.place.host, "shell", "-T", shlex.join(words)]
        config = ["-F", str(self._ssh_config)] if self._ssh_config else []
        port = ["-p", str(self.place.port)] if self.place.port else []
        options = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
        return ["ssh", *config, *options, *port, "--", self.place.host, shlex.join(words)]

    def start(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a script, its streams as pipes.

        Raises:
            DeployError: ssh or adb is not installed here.
        """
        command = self.command(script, *arguments)
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        except FileNotFoundError:
            raise DeployError(f"{command[0]} is not installed on this machine") from None

    def run(self, script: str, *arguments: str) -> bytes:
        """Run a script to its end and return what it wrote.

        Raises:
            DeployError: it failed, or the device cannot be reached; the device's own last line.
        """
        process = self.start(script, *arguments)
        output, errors = process.communicate()
        if process.returncode:
            raise DeployError(self.complaint(process.returncode, errors))
        return output

    def complaint(self, code: int, errors: bytes) -> str:
        """Say in a line what went wrong."""
        lines = errors.decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        last = said[-1] if said else f"exit code {code}"
        reached = not (self.place.scheme == "ssh" and code == _SSH_FAILED)
        return f"{self.place}: {last}" if reached else f"cannot reach {self.place}: {last}"


def run_in_folder(runner: Sequence[str], *words: str) -> tuple[str, ...]:
    """Return script and arguments that run the artifact's program in the deployed folder."""
    return ('cd "$1" && shift && exec "$@"', *runner, "./pock_train", *words)

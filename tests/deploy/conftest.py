"""A device: an sshd of our own on the loopback, whose commands can be made to misbehave."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "artifact"))

SSHD = "/usr/sbin/sshd"

UNAME = """#!/bin/sh
if [ "$1" = -m ] && [ -f "{folder}/machine" ]; then exec /bin/cat "{folder}/machine"; fi
exec {real} "$@"
"""

CAT = """#!/bin/sh
case "$PWD/ $*" in */net/*) ;; *) exec {real} "$@" ;; esac
echo "$@" >>"{folder}/cats"
if [ -f "{folder}/limit" ]; then
  limit=$({real} "{folder}/limit"); rm "{folder}/limit"
  {real} "$@" | head -c "$limit"
  echo "cat: the line is dead" >&2
  exit 1
fi
exec {real} "$@"
"""
"""Counts what is copied to and from folders called net; others, such as a login's, go by."""


@dataclass
class Device:
    """Where a test deploys to."""

    url: str
    """Without the path."""
    folder: Path
    """For whatever a test puts on the device."""
    config: Path
    controls: Path

    def at(self, path):
        return f"{self.url}{path}"

    def says_it_is(self, machine):
        (self.controls / "machine").write_text(f"{machine}\n")

    def tears_the_next_copy_after(self, nbytes):
        (self.controls / "limit").write_text(str(nbytes))

    def copies(self):
        path = self.controls / "cats"
        return len(path.read_text().splitlines()) if path.exists() else 0


def _generate_key(path):
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _commands(folder, controls):
    """Put our uname and cat before those of the system."""
    folder.mkdir()
    for name, text in (("uname", UNAME), ("cat", CAT)):
        path = folder / name
        path.write_text(text.format(folder=controls, real=shutil.which(name)))
        path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    """Start an sshd; return the client's configuration, the port, and the folder of controls."""
    if not (shutil.which("ssh") and Path(SSHD).exists()):
        pytest.skip("needs the OpenSSH client and server")
    folder = tmp_path_factory.mktemp("sshd")
    controls = folder / "controls"
    controls.mkdir()
    sockets = Path(tempfile.mkdtemp())  # a socket's path may have 107 characters
    port = _free_port()
    for name in ("host", "client", "stranger"):
        _generate_key(folder / name)
    shutil.copyfile(folder / "client.pub", folder / "authorized")
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {key}\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a root sshd wants to stand
    (folder / "server").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv PATH={_commands(folder / 'bin', controls)}\n"
    )
    for name, identity in (("client_config", "client"), ("stranger_config", "stranger")):
        (folder / name).write_text(
            f"Host *\n  IdentityFile {folder}/{identity}\n  IdentitiesOnly yes\n"
            f"  IdentityAgent none\n  UserKnownHostsFile {folder}/known\n"
            "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  LogLevel ERROR\n"
            f"  ControlMaster auto\n  ControlPath {sockets}/{identity}-%C\n"
            "  ControlPersist 10\n"  # one login for all calls, as many users have it
        )
    log = (folder / "log").open("w")
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "server")], stderr=log)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        if server.poll() is not None:
            pytest.skip(f"sshd does not start here: {(folder / 'log').read_text()}")
        time.sleep(0.02)
    yield folder, port
    for control in sockets.iterdir():  # the logins that are still open
        leave = ["ssh", "-o", f"ControlPath={control}", "-O", "exit", "device"]
        subprocess.run(leave, capture_output=True, check=False)
    server.terminate()
    server.wait()
    log.close()
    shutil.rmtree(sockets)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    """The fake net as an executable for a Raspberry Pi 4; tests only read it."""
    import fake

    return fake.write(tmp_path_factory.mktemp("artifact") / "net", fake.PI, executable=True)


@pytest.fixture
def device(sshd, tmp_path):
    """A device with its own folder and with well-behaved commands."""
    folder, port = sshd
    for path in (folder / "controls").iterdir():
        path.unlink()
    return Device(
        url=f"ssh://{getpass.getuser()}@127.0.0.1:{port}",
        folder=tmp_path,
        config=folder / "client_config",
        controls=folder / "controls",
    )


@pytest.fixture
def pock():
    """Run a verb; return its exit code, and its JSON or the line on stderr."""
    from pock_tvm.cli import pock as command

    def run(*words):
        done = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
        if done.exit_code == 0:
            return json.loads(done.stdout)
        assert done.stdout == ""
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("pock: ")]
        return line

    return run

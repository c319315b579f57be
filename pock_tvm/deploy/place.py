"""Where an artifact goes: ``ssh://user@host[:port]/path``, ``adb://serial/path``, ``file:///path``."""

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import unquote, urlsplit

from pock_tvm.errors import DeployError

Scheme = Literal["ssh", "adb", "file"]

_HOST = re.compile(r"[A-Za-z0-9_\[\]:%][A-Za-z0-9_.\-\[\]:%]*")
"""No leading dash: ssh and adb would read an option."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder on a device."""

    scheme: Scheme
    host: str
    """User and host for ssh, the serial number for adb, empty for a folder of this machine."""
    port: int | None
    path: str
    """Absolute; or, by ssh, relative to the user's home (``ssh://host/~/path``)."""

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        path = self.path if self.path.startswith("/") else f"/~/{self.path}"
        return f"{self.scheme}://{self.host}{port}{path}"


def parse_place(url: str) -> Place:
    """Take a URL apart.

    Raises:
        DeployError: it is none of the three forms, or names no folder.
    """
    forms = "ssh://user@host[:port]/path, adb://serial/path or file:///path"
    try:
        parts = urlsplit(url)
        port = parts.port if parts.scheme == "ssh" else None
    except ValueError as error:
        raise DeployError(f"{url!r} is no place ({error}); write {forms}") from None
    path = unquote(parts.path)
    if parts.scheme not in ("ssh", "adb", "file") or parts.query or parts.fragment:
        raise DeployError(f"{url!r} is no place; write {forms}")
    if not path.strip("/") or path.strip("/") == "~" or not path.isprintable():
        raise DeployError(f"{url!r} names no folder; write {forms}")
    host = parts.netloc
    if port is not None:
        host = host.rpartition(":")[0]
    if (parts.scheme == "file") != (not host) or "//" in path:
        raise DeployError(f"{url!r} has a host too many or too few; write {forms}")
    user, _, machine = host.rpartition("@")
    if host and not (_HOST.fullmatch(machine) and (not user or _HOST.fullmatch(user))):
        raise DeployError(f"{url!r} has a host that is no name; write {forms}")
    if ":" in user:
        raise DeployError(f"{url!r} holds a password; ssh asks for keys instead")
    if parts.scheme == "ssh" and path.startswith("/~/"):
        path = path[3:]
    scheme = cast(Scheme, parts.scheme)
    return Place(scheme=scheme, host=host, port=port, path=path.rstrip("/"))

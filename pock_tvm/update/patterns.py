"""Name patterns: ``*`` stands for any characters, dots too."""

import difflib
import fnmatch
from collections.abc import Sequence

from pock_tvm.errors import UnknownNameError


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names that a pattern matches."""
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def matches(pattern: str, names: Sequence[str], scheme: str, *, also: str = "") -> list[str]:
    """Return the names that a pattern matches.

    Raises:
        UnknownNameError: there are none; the message offers near matches, then ``also``.
    """
    found = matching(pattern, names)
    if found:
        return found
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4)
    hint = f"; near matches: {', '.join(near)}" if near else ""
    raise UnknownNameError(
        f"update scheme {scheme!r}: pattern {pattern!r} matches no parameter{hint}{also}"
    )

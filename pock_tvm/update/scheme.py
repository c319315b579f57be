"""An update scheme: name patterns of the parameters that learn. Data, readable as TOML.

name = "last block and the head"
trainable = ["classifier.*", "*.layer.11.*.bias"]
frozen = ["*.embeddings.*"]
"""

import difflib
import fnmatch
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pock_tvm.errors import PockError, UnknownNameError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, kw_only=True)
class UpdateScheme:
    """Patterns over parameter names, with ``*`` for any characters (dots too)."""

    name: str
    trainable: tuple[str, ...]
    frozen: tuple[str, ...] = ()
    """Taken out again from what ``trainable`` names."""

    def select(self, parameters: Sequence[str]) -> tuple[str, ...]:
        """Return the names that learn, in the order of ``parameters``.

        Raises:
            UnknownNameError: a pattern matches nothing; the message offers near matches.
        """
        chosen: set[str] = set()
        for pattern in self.trainable:
            chosen.update(_matches(pattern, parameters, self.name))
        for pattern in self.frozen:
            chosen.difference_update(_matches(pattern, parameters, self.name))
        if not chosen:
            raise UnknownNameError(
                f"update scheme {self.name!r} leaves nothing to train; loosen its frozen patterns"
            )
        return tuple(name for name in parameters if name in chosen)

    def describe(self) -> dict[str, Any]:
        """Return the scheme as plain data for the manifest."""
        return {
            "name": self.name,
            "trainable": list(self.trainable),
            "frozen": list(self.frozen),
        }


def load_scheme(path: Path) -> UpdateScheme:
    """Read a scheme from a TOML file.

    Raises:
        PockError: the file cannot be read, is not TOML, or has unknown or ill-typed keys.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PockError(f"cannot read update scheme {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PockError(f"update scheme {path} is not TOML: {error}") from error
    unknown = sorted(set(content) - {"name", "trainable", "frozen"})
    if unknown:
        raise PockError(
            f"update scheme {path} has unknown keys {unknown}; use name, trainable, frozen"
        )
    patterns = {key: content.get(key, []) for key in ("trainable", "frozen")}
    for key, value in patterns.items():
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise PockError(f"update scheme {path}: {key} must be a list of name patterns")
    if not patterns["trainable"]:
        raise PockError(f"update scheme {path} names nothing in `trainable`")
    return UpdateScheme(
        name=str(content.get("name", path.stem)),
        trainable=tuple(patterns["trainable"]),
        frozen=tuple(patterns["frozen"]),
    )


def _matches(pattern: str, parameters: Sequence[str], scheme: str) -> list[str]:
    found = [name for name in parameters if fnmatch.fnmatchcase(name, pattern)]
    if found:
        return found
    near = difflib.get_close_matches(pattern, parameters, n=3, cutoff=0.4)
    hint = f"; near matches: {', '.join(near)}" if near else ""
    raise UnknownNameError(
        f"update scheme {scheme!r}: pattern {pattern!r} matches no parameter{hint}"
    )

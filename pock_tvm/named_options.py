"""``name:option=value,option=value``: how a loss or an optimizer is written in one word.

The options of a description are the fields of its dataclass; a value is read as the type of the
field's default.
"""

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, TypeVar

from pock_tvm.errors import UnknownNameError

T = TypeVar("T")

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def split_reference(text: str) -> tuple[str, dict[str, str]]:
    """Split ``huber:delta=0.5`` into ``("huber", {"delta": "0.5"})``.

    Raises:
        UnknownNameError: a part after the colon is not ``option=value``.
    """
    name, _, rest = text.partition(":")
    options: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not value.strip():
            raise UnknownNameError(f"{text!r}: {part!r} is not option=value")
        options[key.strip().replace("-", "_")] = value.strip()
    return name.strip(), options


def build(kind: str, known: Mapping[str, type[T]], name: str, options: Mapping[str, Any]) -> T:
    """Return ``known[name](**options)``; values given as text are read.

    Raises:
        UnknownNameError: nothing has that name, it has no such option, or a value is none.
    """
    if name not in known:
        raise UnknownNameError(f"unknown {kind} {name!r}; known are {', '.join(known)}")
    accepted = {f.name: f for f in fields(known[name])}  # type: ignore[arg-type]
    for key in options:
        if key not in accepted:
            listed = ", ".join(accepted) or "none"
            raise UnknownNameError(f"{kind} {name!r} has no option {key!r}; it has {listed}")
    return known[name](**{key: _read(accepted[key], value) for key, value in options.items()})


def require(condition: bool, message: str) -> None:  # noqa: FBT001  (reads as a sentence)
    """Raise an error for the user unless an option is as it must be."""
    if not condition:
        raise UnknownNameError(message)


def _read(field: Field[Any], value: Any) -> Any:
    if not isinstance(value, str):
        return value
    kind: Any = float if field.default is None else type(field.default)
    try:
        return _WORDS[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number"}.get(kind, "a number")
        raise UnknownNameError(f"option {field.name} is {value!r}, not {wanted}") from None

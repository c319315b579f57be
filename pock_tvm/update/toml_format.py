"""Read an update scheme from TOML.

name = "late blocks"
trainable = ["classifier.*"]
frozen = ["*.embeddings.*"]

[[update]]
what = "first_conv"
blocks = "last 7"
channels = "1/4"

[lora]
rank = 8
alpha = 16
targets = ["attention"]
"""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from pock_tvm.errors import PockError, UnknownNameError
from pock_tvm.update.blocks import Blocks
from pock_tvm.update.scheme import Embeddings, LoRA, Pick, Rule, UpdateScheme
from pock_tvm.update.selectors import SELECTORS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = ("name", "trainable", "frozen", "pick", "seed", "embeddings", "update", "lora")


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
    return scheme_of(content, f"update scheme {path}", path.stem)


def scheme_of(content: Mapping[str, Any], where: str, name: str) -> UpdateScheme:
    """Build a scheme from the content of a TOML file.

    Args:
        content: tables and values.
        where: what to call the file in errors.
        name: of the scheme, where the content has none.

    Raises:
        PockError: unknown or ill-typed keys, or nothing that learns.
    """
    _check_keys(content, _KEYS, where)
    scheme = UpdateScheme(
        name=_typed(content, "name", str, name, where),
        trainable=_patterns(content, "trainable", (), where),
        frozen=_patterns(content, "frozen", (), where),
        rules=tuple(_rule(table, at) for table, at in _tables(content, "update", where)),
        lora=tuple(_lora(table, at) for table, at in _tables(content, "lora", where)),
        pick=_one_of(content, "pick", get_args(Pick), "magnitude", where),
        seed=_typed(content, "seed", int, 0, where),
        embeddings=_one_of(content, "embeddings", get_args(Embeddings), "exact", where),
    )
    if not (scheme.trainable or scheme.rules or scheme.lora):
        raise PockError(f"{where} names nothing in `trainable`, `[[update]]` or `[lora]`")
    return scheme


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    _check_keys(table, ("what", "match", "blocks", "channels"), where)
    what = _patterns(table, "what", ("all",), where)
    unknown = [word for word in what if word not in SELECTORS]
    if unknown:
        raise UnknownNameError(
            f"{where}: unknown selector {unknown[0]!r}; known are {', '.join(SELECTORS)}"
        )
    return Rule(
        what=what,
        match=_patterns(table, "match", ("*",), where),
        blocks=_blocks(table, where),
        channels=_ratio(table, where),
    )


def _lora(table: Mapping[str, Any], where: str) -> LoRA:
    _check_keys(table, ("rank", "alpha", "targets", "blocks", "seed"), where)
    for key in ("rank", "alpha", "targets"):
        if key not in table:
            raise PockError(f"{where} lacks {key}; write rank, alpha and targets")
    alpha = _typed(table, "alpha", (int, float), 0, where)
    return LoRA(
        rank=_typed(table, "rank", int, 0, where),
        alpha=float(alpha),
        targets=_patterns(table, "targets", (), where),
        blocks=_blocks(table, where),
        seed=_typed(table, "seed", int, 0, where),
    )


def _ratio(table: Mapping[str, Any], where: str) -> Fraction:
    value = table.get("channels", 1)
    ratio = Fraction(0)
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(ValueError, ZeroDivisionError, OverflowError):
            ratio = Fraction(value).limit_denominator(1 << 16)
    if not 0 < ratio <= 1:
        raise PockError(
            f"{where}: channels is {value!r}; write a share such as '1/4', above 0 and at most 1"
        )
    return ratio


def _blocks(table: Mapping[str, Any], where: str) -> Blocks | None:
    value = table.get("blocks")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(type(v) is int for v in value):
        return tuple(value)
    raise PockError(f"{where}: blocks is {value!r}; write 'last 4', '2-5' or [2, 3]")


def _tables(
    content: Mapping[str, Any], key: str, where: str
) -> Iterable[tuple[Mapping[str, Any], str]]:
    """Yield the tables under a key, one or several, each with its place for errors."""
    value = content.get(key, [])
    tables = [value] if isinstance(value, dict) else value
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise PockError(f"{where}: {key} must be a table; write [[{key}]]")
    for position, table in enumerate(tables, 1):
        yield table, f"{where}: {key} {position}"


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise PockError(f"{where} has unknown keys {unknown}; use {', '.join(known)}")


def _patterns(
    table: Mapping[str, Any], key: str, default: tuple[str, ...], where: str
) -> tuple[str, ...]:
    value = table.get(key, list(default))
    if isinstance(value, str) and key in ("what", "match", "targets"):
        value = [value]  # one word needs no list
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise PockError(f"{where}: {key} must be a list of name patterns")
    return tuple(value)


def _typed(table: Mapping[str, Any], key: str, kind: Any, default: Any, where: str) -> Any:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, kind):
        wanted = {str: "a text", int: "a whole number"}.get(kind, "a number")
        raise PockError(f"{where}: {key} is {value!r}; it must be {wanted}")
    if key == "seed" and value < 0:
        raise PockError(f"{where}: seed is {value}; it must be 0 or more")
    return value


def _one_of(
    table: Mapping[str, Any], key: str, known: tuple[str, ...], default: str, where: str
) -> Any:
    value = table.get(key, default)
    if value not in known:
        raise PockError(f"{where}: {key} is {value!r}; write one of {', '.join(known)}")
    return value

"""Write an update scheme as TOML, as ``pock_tvm.update.load_scheme`` reads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pock_tvm.artifact.fresh_file import fresh_file
from pock_tvm.update import UpdateScheme


def scheme_toml(scheme: UpdateScheme, comments: Mapping[str, Any]) -> str:
    """Return the text of a scheme file.

    Args:
        scheme: to be written.
        comments: what it was made for, and what it promises: lines at the top.
    """
    content = scheme.describe()
    lines = [f"# {key}: {value}" for key, value in comments.items()]
    for key in ("name", "trainable", "frozen", "pick", "seed", "embeddings"):
        if content[key] or key in ("name", "seed"):
            lines.append(f"{key} = {_value(content[key])}")
    for table, entries in (("update", content["update"]), ("lora", content["lora"])):
        for entry in entries:
            lines += ["", f"[[{table}]]"]
            lines += [f"{k} = {_value(v)}" for k, v in entry.items() if v is not None]
    return "\n".join(lines) + "\n"


def write_scheme(scheme: UpdateScheme, path: Path, comments: Mapping[str, Any]) -> None:
    """Write a scheme file; whatever fails, the old one stays."""
    with fresh_file(path) as fresh:
        fresh.write_text(scheme_toml(scheme, comments), encoding="utf-8")


def _value(value: Any) -> str:
    """Write a text, number or list; JSON's form of them is TOML's."""
    return json.dumps(value, ensure_ascii=False)

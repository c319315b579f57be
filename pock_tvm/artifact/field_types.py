"""The types that a manifest's fields have: JSON may hold anything in their places."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pock_tvm.artifact.description import ArtifactDescription

_INTEGERS = {"batch", "accumulate", "offset", "kernel_calls"}
_OPTIONAL_INTEGERS = {"limit", "ignore", "panel"}
_TEXTS = {"name", "dtype", "region", "role", "symbol", "target", "model", "created_by"}
_MAPPINGS = {"tvm_options", "aliases", "loss", "optimizer", "update"}
_TRUTHS = {"trainable", "dropout"}
_LISTS = {"shape": int, "axes": int, "inputs": str, "outputs": str}


def type_problem(description: ArtifactDescription) -> str | None:
    """Return one line about the first field whose type is not that of its class, or None."""
    records: tuple[Any, ...] = (
        description,
        description.regions,
        *description.tensors,
        *description.entries,
    )
    for record in records:
        for field in fields(record):
            value = getattr(record, field.name)
            if not _fits(field.name, value):
                return f"{field.name} is {str(value)[:40]!r}, which is not of its type"
    return None


def _fits(name: str, value: Any) -> bool:
    if name in _INTEGERS or name.endswith(("_bytes", "_per_thread")):
        return type(value) is int  # True is an int to isinstance
    if name in _OPTIONAL_INTEGERS:
        return value is None or (type(value) is int and -(1 << 63) <= value < 1 << 63)
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _MAPPINGS:
        return isinstance(value, Mapping)
    if name in _TRUTHS:
        return isinstance(value, bool)
    if name in _LISTS and value is not None:
        return all(type(item) is _LISTS[name] for item in value)
    return True

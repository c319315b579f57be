"""Read a user's own target from TOML: the fields of ``TargetSpec`` by their names.

like = "raspberry-pi-4"     # optional: where fields come from that the file leaves out
name = "my-board"
core = "cortex-a73"
l2_bytes = 524288

[tvm_options]
kind = "llvm"
mtriple = "aarch64-linux-gnu"
mcpu = "cortex-a73"
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import tvm_ffi

from pock_tvm.errors import TargetFileError
from pock_tvm.targets.base import DeviceSpec, TargetSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_COUNTS = ("vector_bits", "vector_registers", "l1_bytes", "l2_bytes", "cores")
_LISTS = ("zig_options", "emulator")
_ARCHITECTURES = "x86_64|aarch64|arm64|(arm|thumb)(v[\\w.]+)?|hexagon|riscv(32|64)"
_LEAST_REGISTERS = 8
"""A register tile, a row of the panel and a broadcast take that many."""


def read_target(path: Path, known: Mapping[str, TargetSpec]) -> TargetSpec:
    """Read the target that a file describes.

    Args:
        path: the ``.toml`` file.
        known: targets that it may be ``like``, and whose names it must leave alone.

    Raises:
        TargetFileError: it cannot be read, a field is unknown, missing or of another type, or TVM
            does not take the options.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetFileError(f"cannot read target {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetFileError(f"target {path} is not TOML: {error}") from None
    values = _complete(content, known, path)
    for key, value in values.items():
        problem = _problem(key, value)
        if problem:
            raise TargetFileError(f"target {path}: {key} is {value!r}; {problem}")
    if values["name"] in known:
        raise TargetFileError(
            f"target {path}: the name {values['name']!r} is taken; choose another"
        )
    values |= {key: tuple(values[key]) for key in _LISTS}
    spec = TargetSpec(**values)
    _refuse_unknown_options(spec, path)
    return spec


def _complete(
    content: Mapping[str, Any], known: Mapping[str, TargetSpec], path: Path
) -> dict[str, Any]:
    """Return a value for every field, from the file or from the target that it is like."""
    values = dict(content)
    like = values.pop("like", None)
    if like is not None and (not isinstance(like, str) or like not in known or like == "host"):
        names = ", ".join(name for name in known if name != "host")
        raise TargetFileError(f"target {path}: like is {like!r}; it takes one of {names}")
    for field in fields(TargetSpec):
        if field.name in values:
            continue
        if like is not None and field.name not in ("name", "source"):
            values[field.name] = getattr(known[like], field.name)
        elif field.name == "source":
            values["source"] = f"{path}, like {like}" if like else str(path)
        elif field.default is MISSING:
            raise TargetFileError(f"target {path}: {field.name} is missing; `like` can give it")
    known_fields = [field.name for field in fields(TargetSpec) if field.name != "precision"]
    unknown = sorted(set(content) - {*known_fields, "like"})
    if unknown:
        raise TargetFileError(
            f"target {path}: no field is called {', '.join(unknown)}; there are "
            f"{', '.join(known_fields)} and like"
        )
    return values


def _problem(key: str, value: Any) -> str | None:
    """Say what a field should be; None where it is."""
    if key in _COUNTS:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 40:
            return "it takes a positive number"
        if key == "vector_bits" and value not in (32, 64, 128, 256, 512, 1024, 2048):
            return "it takes a power of two from 32 to 2048"
        if key == "vector_registers" and value < _LEAST_REGISTERS:
            return f"kernels need at least {_LEAST_REGISTERS}"
        return None
    if key in _LISTS:
        listed = isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
        return None if listed else "it takes a list of strings"
    if key == "tvm_options":
        complete = isinstance(value, Mapping) and {"kind", "mtriple"} <= set(value)
        if not complete or value["kind"] != "llvm":
            return 'it takes a table with kind = "llvm", mtriple and whatever else TVM takes'
        architecture = str(value["mtriple"]).partition("-")[0]
        if not re.fullmatch(_ARCHITECTURES, architecture):  # LLVM crashes on some unknown ones
            return f"the architecture {architecture!r} is none that can be compiled for"
        return None
    if key == "device":
        own = value is None or isinstance(value, DeviceSpec)
        return None if own else "a GPU comes from the target that the file is `like`"
    return None if isinstance(value, str) and value else "it takes a string"


def _refuse_unknown_options(spec: TargetSpec, path: Path) -> None:
    """Ask TVM and LLVM, which would otherwise compile for another processor, or much later fail."""
    try:
        target = spec.build()
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise TargetFileError(f"target {path}: TVM refuses tvm_options: {lines[-1]}") from None
    cpu = spec.tvm_options.get("mcpu")
    cpus = {str(name) for name in tvm_ffi.get_global_func("target.llvm_get_cpu_archlist")(target)}
    if cpu is not None and cpus and cpu not in cpus:
        raise TargetFileError(
            f"target {path}: LLVM knows no mcpu {cpu!r} for {spec.tvm_options['mtriple']}"
        )

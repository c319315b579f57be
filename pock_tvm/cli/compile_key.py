"""What decides the artifact of ``pock compile``, as one hash, found without importing TVM."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pock_tvm
from pock_tvm.record_files import record_folders

_LAYERS = ("", "relay_passes", "schedules", "targets")
_SOURCES = (".py", ".c", ".h")
_LIBRARIES = (
    "apache-tvm",
    "apache-tvm-ffi",
    "jax",
    "numpy",
    "onnx",
    "torch",
    "transformers",
    "ziglang",
)


def compile_key(model: str, arguments: Mapping[str, Any]) -> str | None:
    """Return the hash of a compilation; None where the model may change without being seen.

    That is a function of Python code, and an ONNX file whose weights stand in other files.

    Args:
        model: as ``pock compile`` takes it.
        arguments: every other option that the artifact depends on.
    """
    content = _model_content(model)
    if content is None:
        return None
    about = {
        "model": content,
        "arguments": {name: _with_content(value) for name, value in arguments.items()},
        "sources": _sources_sha256(),
        "records": _records_sha256(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "python": sys.version,
        "machine": [platform.machine(), *_processor()],
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


def _model_content(model: str) -> list[str] | None:
    if model.startswith("zoo:"):
        return [model]
    path = Path(model)
    if path.suffix not in (".pt2", ".onnx", ".tflite"):
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    # A tensor of a file of its own has an entry of this key.
    if path.suffix == ".onnx" and b"location" in content:
        return None
    return [path.name, hashlib.sha256(content).hexdigest()]


def _with_content(value: Any) -> Any:
    """Return an option, with the content of the file that it names if it names one."""
    if not isinstance(value, str | Path):
        return value
    try:
        return [str(value), Path(value).read_text(encoding="utf-8")]
    except (OSError, ValueError):
        return value


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> list[str]:
    """Return what Linux says of the first processor, but not how fast it runs just now."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return [platform.processor()]
    names = ("model name", "flags", "Features", "CPU part")
    lines = text.partition("\n\n")[0].splitlines()
    return [line for line in lines if line.partition("\t")[0].strip(" :") in names]


def _records_sha256() -> str:
    """Hash what tuners have found out about any core: a target of the user's may name one."""
    digest = hashlib.sha256()
    for folder in record_folders():
        for path in sorted(folder.glob("*.json")):
            digest.update(f"{path.name}\n".encode())
            with contextlib.suppress(OSError):  # whoever needs it will say so
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources_sha256() -> str:
    """Hash all of our own sources."""
    digest = hashlib.sha256()
    root = Path(pock_tvm.__file__).resolve().parent
    for layer in _LAYERS:
        folder = (root / layer).resolve()
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SOURCES:
                digest.update(f"{layer} {path.relative_to(folder)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()

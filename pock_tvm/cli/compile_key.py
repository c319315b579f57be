"""What decides the artifact of ``pock compile``, as one hash, found without importing TVM."""

import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pock_tvm.own_sources import sources_sha256
from pock_tvm.record_files import records_sha256

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
        "sources": sources_sha256(),
        "records": records_sha256(),
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

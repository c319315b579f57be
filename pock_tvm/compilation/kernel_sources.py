"""The kernels of a training step as TIR, in a file of the artifact: what a tuner works on.

``kernels.json.gz`` holds each kernel as it comes from the graph, before it is scheduled. No other
verb reads it, and a device does without.
"""

import gzip
import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import tvm
from tvm import tirx

from pock_tvm.artifact.load import Artifact
from pock_tvm.errors import ArtifactError, TuningError

KERNELS_FILE = "kernels.json.gz"

_SCHEMA = 1
_UNREADABLE: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, RecursionError)
_UNREADABLE += (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class KernelSource:
    """A kernel before it is scheduled."""

    func: tirx.PrimFunc
    in_place: bool
    """Whether one of its calls writes where it reads."""


def write_kernel_sources(kernels: Mapping[str, tirx.PrimFunc], in_place: Collection[str]) -> bytes:
    """Return the content of the file."""
    rows = {
        name: {"tir": json.loads(tvm.ir.save_json(func)), "in_place": name in in_place}
        for name, func in sorted(kernels.items())
    }
    document = {"schema": _SCHEMA, "tvm": tvm.__version__, "kernels": rows}
    return gzip.compress(json.dumps(document, sort_keys=True).encode(), mtime=0)


def read_kernel_sources(artifact: Artifact) -> dict[str, KernelSource]:
    """Read the kernels of an artifact, whose files have been checked.

    Raises:
        TuningError: it holds none, or those of another version.
        ArtifactError: the file is something else.
    """
    again = "compile it again"
    if KERNELS_FILE not in artifact.files:
        raise TuningError(f"{artifact.directory} holds no {KERNELS_FILE}; {again}")
    path = artifact.directory / KERNELS_FILE
    try:
        document = json.loads(gzip.decompress(path.read_bytes()))
        version = (document["schema"], document["tvm"])
        rows = dict(document["kernels"].items())
        texts = {k: (json.dumps(r["tir"]), bool(r["in_place"])) for k, r in rows.items()}
    except _UNREADABLE as error:
        raise ArtifactError(f"{path} holds no kernels ({type(error).__name__}); {again}") from None
    if version != (_SCHEMA, tvm.__version__):
        raise TuningError(f"{path} was written by TVM {str(version[1])[:20]}; {again}")
    return {k: KernelSource(tvm.ir.load_json(text), flag) for k, (text, flag) in texts.items()}

"""Put new values into the initializers of an ONNX file; all else of it stays as it is."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from pock_tvm.artifact.fingerprint import tensors_sha256
from pock_tvm.artifact.fresh_file import fresh_file
from pock_tvm.errors import ArtifactError
from pock_tvm.export.tensors import TrainedModel

_MOST_BYTES = (1 << 31) - (1 << 20)
"""What protobuf can hold, less room for the graph."""

_VALUES = (
    "float_data",
    "double_data",
    "int32_data",
    "int64_data",
    "uint64_data",
    "external_data",
    "raw_data",
)
"""Where a tensor may keep its elements."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a model, with weights that stand in a file beside it.

    Raises:
        ArtifactError: it cannot be read, or is not an ONNX file.
    """
    try:
        return onnx.load(path)
    except FileNotFoundError:
        raise ArtifactError(f"no such file: {path}") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from None
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"{path} is not an ONNX file: {str(error).splitlines()[0]}") from None


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return every initializer that numpy has a dtype for."""
    found = {}
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype.kind in "fiub":
            found[tensor.name] = value
    return found


def with_values(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return a copy of a model with new values of some initializers."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    for tensor in out.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(
                numpy_helper.from_array(np.ascontiguousarray(values[tensor.name]), tensor.name)
            )
    return out


def write_onnx(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Check a model, then write it.

    Raises:
        ArtifactError: it cannot be written, or ONNX's own checker refuses it.
    """
    if model.ByteSize() > _MOST_BYTES:
        raise ArtifactError(
            f"cannot write {path}: the model takes more than the 2 GiB that one ONNX file holds; "
            "export safetensors or a delta"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"ONNX refuses the model: {str(error).splitlines()[0]}") from None
    with fresh_file(path) as fresh:
        fresh.write_bytes(model.SerializeToString())


def check_source(trained: TrainedModel, tensors: Mapping[str, np.ndarray], where: object) -> None:
    """Refuse a model other than the one that was compiled.

    Raises:
        ArtifactError: a tensor is missing, or its values differ.
    """
    missing = [name for name in trained.initial if name not in tensors]
    if missing:
        raise ArtifactError(
            f"{where} is not the model that was compiled: it has no tensor {missing[0]!r}"
        )
    found = tensors_sha256({name: tensors[name] for name in trained.initial})
    if found != trained.description.model_sha256:
        raise ArtifactError(
            f"{where} is not the model that was compiled: its weights differ "
            f"(SHA-256 {found[:12]}…, compiled was {trained.description.model_sha256[:12]}…)"
        )

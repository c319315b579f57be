"""The artifact: what it says about itself, how it is written, linked, checked and read.

Reading needs numpy at most; nothing here imports tvm, torch or onnx.
"""

from pock_tvm.artifact.description import (
    ArtifactDescription,
    EntryPoint,
    Regions,
    TensorSpec,
)
from pock_tvm.artifact.load import Artifact, load_artifact
from pock_tvm.artifact.write import write_artifact

__all__ = [
    "Artifact",
    "ArtifactDescription",
    "EntryPoint",
    "Regions",
    "TensorSpec",
    "load_artifact",
    "write_artifact",
]

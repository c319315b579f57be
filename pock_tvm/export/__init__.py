"""The way back out: what an artifact has learned, as the files that other tools read.

Reading an artifact and writing safetensors or a delta needs numpy alone; PyTorch and ONNX are
imported by the writers of their formats.
"""

from pock_tvm.export.apply_delta import apply_delta
from pock_tvm.export.formats import FORMATS, export_file, format_of
from pock_tvm.export.parse_delta import read_delta
from pock_tvm.export.tensors import TrainedModel, read_trained

__all__ = [
    "FORMATS",
    "TrainedModel",
    "apply_delta",
    "export_file",
    "format_of",
    "read_delta",
    "read_trained",
]

"""Turn the PyTorch model that was compiled, with its trained weights, into an ONNX file."""

import warnings

import numpy as np
import onnx
import torch

from pock_tvm.errors import PockError, UnsupportedModelError
from pock_tvm.export.onnx_file import check_source
from pock_tvm.export.tensors import TrainedModel
from pock_tvm.export.torch_file import as_arrays
from pock_tvm.frontend.torch_source import TorchSource


def onnx_from_torch(source: TorchSource, trained: TrainedModel) -> onnx.ModelProto:
    """Export the model with trained weights; the batch stays free where the model allows it.

    Raises:
        ArtifactError: the source is not the model that was compiled.
        UnsupportedModelError: PyTorch's exporter refuses it.
    """
    check_source(trained, as_arrays(source.state_dict()), source.reference)
    tuned = {name: torch.from_numpy(np.array(value)) for name, value in trained.tuned.items()}
    for other, name in trained.description.aliases.items():
        tuned[other] = tuned[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return source.to_onnx(tuned)
    except PockError:
        raise
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise UnsupportedModelError(
            f"PyTorch cannot write {source.reference} as ONNX: {reason.strip()}"
        ) from error

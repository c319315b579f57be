"""The gradients that PyTorch finds, in float64, for the module that was imported."""

from collections.abc import Mapping

import numpy as np
import torch
from tvm import relax
from tvm.ir.transform import Sequential

from pock_tvm.checking.float64 import Function
from pock_tvm.frontend.torch_source import TorchSource
from pock_tvm.losses import Distillation, Loss
from pock_tvm.relay_passes.append_loss import AppendLoss
from pock_tvm.relay_passes.decompose_batch_norm import Statistics
from pock_tvm.relay_passes.derive_backward import DeriveBackward


def torch_gradients(
    source: TorchSource,
    samples: Mapping[str, np.ndarray],
    loss: Loss,
    batch_norm: Statistics,
) -> dict[str, np.ndarray]:
    """Return the gradient of every parameter, by all of its names.

    PyTorch differentiates the model; how the loss depends on the logits comes from our own rules,
    which central differences check.
    """
    model = source.module().double()
    inputs = [_as_torch(samples[name]) for name in source.input_names()]
    with torch.no_grad():
        teacher = model(*inputs).numpy()
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.train(batch_norm == "train")
    logits = model(*inputs)
    start = {"logits": logits.detach().numpy(), "teacher": teacher}
    if "labels" in samples:
        start["labels"] = samples["labels"]
    _, slope = _loss_of_logits(loss, logits.shape)(start)
    logits.backward(torch.from_numpy(np.array(slope)))
    return {
        name: parameter.grad.numpy()
        for name, parameter in model.module.named_parameters(remove_duplicate=False)
        if parameter.grad is not None
    }


def _loss_of_logits(loss: Loss, shape: tuple[int, ...]) -> Function:
    """Compile (logits, labels) -> (loss, its gradient)."""
    ty = relax.TensorType(list(shape), "float64")
    logits = relax.Var("logits", ty)
    params, results = [logits], [logits]
    if isinstance(loss, Distillation):
        params.append(relax.Var("teacher", ty))
        results.append(params[1])
    bb = relax.BlockBuilder()
    with bb.function("main", params):
        with bb.dataflow():
            result = bb.emit_output(results[0] if len(results) == 1 else relax.Tuple(results))
        bb.emit_func_output(result)
    return Function(Sequential([AppendLoss(loss), DeriveBackward(["logits"])])(bb.get()))


def _as_torch(value: np.ndarray) -> torch.Tensor:
    if value.dtype.kind == "f":
        return torch.from_numpy(value.astype("float64"))
    return torch.from_numpy(value.astype("int64"))

"""ONNX Runtime Training, on its on-device interface: gradients derived when the files are made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
from onnxruntime.training import api, artifacts
from protocol import serve


def make(task: dict[str, Any], folder: Path) -> Callable[[], float]:
    """Return a function that does one step."""
    made = folder / "artifacts"
    if not made.exists():  # left there by timing, where memory is measured
        _derive(task, folder, made)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    state = api.CheckpointState.load_checkpoint(str(made / "checkpoint"))
    model = api.Module(
        str(made / "training_model.onnx"), state, device="cpu", session_options=options
    )
    optimizer = api.Optimizer(str(made / "optimizer_model.onnx"), model)
    optimizer.set_learning_rate(task["learning_rate"])
    model.train()
    batch = numpy.load(folder / "batch.npz")
    inputs, labels = batch["inputs"], batch["labels"].astype("int64")

    def step() -> float:
        loss = model(inputs, labels)
        optimizer.step()
        model.lazy_reset_grad()
        return float(loss)

    return step


def _derive(task: dict[str, Any], folder: Path, made: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":  # whose gradient reads what it need not give
            node.output.extend([f"{node.output[0]}_mean", f"{node.output[0]}_rstd"])
    stored = [tensor.name for tensor in model.graph.initializer]
    learns = set(task["trainable"])
    made.mkdir()
    artifacts.generate_artifacts(
        model,
        requires_grad=[name for name in stored if name in learns],
        frozen_params=[name for name in stored if name not in learns],
        loss=artifacts.LossType.CrossEntropyLoss,
        optimizer=artifacts.OptimType.AdamW
        if task["optimizer"] == "adamw"
        else artifacts.OptimType.SGD,
        artifact_directory=str(made),
        loss_input_names=["logits"],
    )


if __name__ == "__main__":
    serve(make)

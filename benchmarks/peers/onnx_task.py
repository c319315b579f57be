"""The task as an ONNX file, for peers that read nothing else."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.folded import fold_batch_norms
from benchmarks.peers.task import Task

OPSET = 17
"""The newest that ONNX Runtime Training knows the gradients of."""


def write_onnx_task(task: Task, folder: Path) -> bool:
    """Write ``task.json``, ``model.onnx`` with batch norms folded, and ``batch.npz``.

    Returns:
        Whether anything was folded.
    """
    import torch

    from pock_tvm.frontend.logits import Logits

    class Rows(Logits):
        """One row of logits for each label."""

        def forward(self, *inputs: Any) -> Any:
            return super().forward(*inputs).flatten(0, -2)

    wrapper = Rows if task.places else Logits
    module, _ = task.built
    inputs, labels = task.samples()
    example = torch.tensor(inputs)
    example = example if example.is_floating_point() else example.long()
    module = module.eval()
    learns = fold_batch_norms(module, (example,), task.learns)
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            wrapper(module, task.model, None),
            (example,),
            folder / "model.onnx",
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["logits"],
        )
    document = {
        "trainable": [f"module.{name}" for name in learns],
        "optimizer": task.optimizer,
        "learning_rate": task.learning_rate,
        "threads": task.threads,
    }
    (folder / "task.json").write_text(json.dumps(document), encoding="utf-8")
    np.savez(folder / "batch.npz", inputs=example.numpy(), labels=labels.flatten())
    return set(learns) != set(task.learns)

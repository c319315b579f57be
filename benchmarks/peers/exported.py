"""The task as files that a peer without PyTorch can read: graph, weights, one batch."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.task import Task


def write_task(task: Task, folder: Path) -> None:
    """Write ``task.json``, the operators of the model among it, ``weights.npz``, ``batch.npz``.

    The graph is that of ``torch.export``, in PyTorch's core operators, at the batch of the task.
    """
    import torch

    from pock_tvm.frontend.logits import Logits

    module, _ = task.built
    inputs, labels = task.samples()
    example = torch.tensor(inputs)
    example = example if example.is_floating_point() else example.long()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Logits(module.eval(), task.model, None), (example,))
        program = program.run_decompositions()
    learns = set(task.learns)
    tensors, names = {}, {}
    # Tied parameters are one, by the name that PyTorch lists first, which is the one that learns.
    tied = {p.data_ptr(): n for n, p in module.named_parameters()}
    for spec in program.graph_signature.input_specs:
        if spec.target is None:
            continue
        stored = program.state_dict.get(spec.target, program.constants.get(spec.target))
        name = spec.target.removeprefix("module.")
        name = tied.setdefault(stored.data_ptr(), name)
        tensors[name], names[spec.arg.name] = stored.detach().numpy(), name
    nodes = [
        {"name": n.name, "op": _operator(n.target), "args": _plain(n.args), **_options(n.kwargs)}
        for n in program.graph.nodes
        if n.op == "call_function"
    ]
    (user_input,) = program.graph_signature.user_inputs
    (output,) = program.graph_signature.user_outputs
    document = {
        "nodes": nodes,
        "parameters": names,
        "trainable": [n for n in tensors if n in learns],
        "input": user_input,
        "output": output,
        "optimizer": task.optimizer,
        "learning_rate": task.learning_rate,
        "threads": task.threads,
    }
    folder.mkdir(exist_ok=True)
    (folder / "task.json").write_text(json.dumps(document), encoding="utf-8")
    np.savez(folder / "weights.npz", **tensors)
    np.savez(folder / "batch.npz", inputs=inputs, labels=labels.flatten())


def _operator(target: Any) -> str:
    """Return ``add`` of ``aten.add.Tensor``."""
    return getattr(target, "_opname", getattr(target, "__name__", str(target)))


def _options(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"options": {k: _plain(v) for k, v in kwargs.items() if v is not None}}


def _plain(value: Any) -> Any:
    import torch

    if isinstance(value, torch.fx.Node):
        return {"ref": value.name}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {"text": str(value)}

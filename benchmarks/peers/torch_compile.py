"""``torch.compile`` at its best setting: the whole net in one graph, channels last."""

from pathlib import Path

from benchmarks.peers.task import Task
from benchmarks.peers.torch_eager import TorchEager


class TorchCompile(TorchEager):
    """PyTorch's own compiler, which derives and compiles the backward pass too."""

    name = "torch-compile"

    def __init__(self, task: Task, folder: Path) -> None:
        import torch

        super().__init__(task, folder)
        self.module = torch.compile(self.module)

"""PyTorch eager at its best setting: channels last for pictures, fused optimizer, no dropout."""

from pathlib import Path
from typing import Any

from benchmarks.peers.folded import fold_batch_norms
from benchmarks.peers.task import System, Task


class TorchEager(System):
    """``loss.backward()`` and a fused optimizer; batch norm frozen by eval mode."""

    name = "torch"

    def __init__(self, task: Task, folder: Path) -> None:
        import torch

        torch.set_num_threads(task.threads)
        module, _ = task.built
        learns = set(self.prepared(module.eval(), task))
        self.same_update = learns == set(task.learns)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in learns)
        inputs, labels = (torch.tensor(a) for a in task.samples())
        self.inputs = inputs if inputs.is_floating_point() else inputs.long()
        self.labels = labels.long().flatten()
        self.module = module
        if inputs.ndim == 4:
            self.module = self.module.to(memory_format=torch.channels_last)
            self.inputs = self.inputs.to(memory_format=torch.channels_last)
        chosen = [p for p in module.parameters() if p.requires_grad]
        rule = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[task.optimizer]
        self.optimizer = rule(chosen, lr=task.learning_rate, fused=True)

    def prepared(self, module: Any, task: Task) -> tuple[str, ...]:
        """Change the module where that is faster; return the names that learn."""
        return task.learns

    def step(self) -> float:
        """Do one step; gradients are released first, as PyTorch does by default."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        output = self.module(self.inputs)
        rows = getattr(output, "logits", output).flatten(0, -2)
        loss = torch.nn.functional.cross_entropy(rows, self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @classmethod
    def load_libraries(cls, task: Task) -> None:
        """Import PyTorch and the model's code, and do one tiny step, which loads the rest."""
        import torch

        task.import_builder()
        tiny = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(tiny.parameters(), lr=0.0, fused=True)
        tiny(torch.zeros(1, 1)).sum().backward()
        optimizer.step()


class TorchFolded(TorchEager):
    """Eager PyTorch without batch norms: fewer parameters, of the same function."""

    name = "torch-folded"

    def prepared(self, module: Any, task: Task) -> tuple[str, ...]:
        """Fold what can be folded."""
        _, example = task.built
        return fold_batch_norms(module, example, task.learns)

"""Make a module return the one tensor that a loss is computed from."""

from collections.abc import Mapping
from typing import Any

import torch

from pock_tvm.errors import PockError
from pock_tvm.frontend.outputs import choose_output


class Logits(torch.nn.Module):
    """Return the tensor that a loss is computed from, whatever the wrapped model returns."""

    def __init__(self, module: torch.nn.Module, name: str, output: str | int | None) -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.output = output

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Call the module."""
        tensors = _named(self.module(*inputs))
        return list(tensors.values())[choose_output(self.name, list(tensors), self.output)]


def _named(out: Any) -> dict[str, torch.Tensor]:
    """Return the tensors that a module returns, by key or position."""
    if isinstance(out, torch.Tensor):
        return {"output": out}
    if not isinstance(out, Mapping):
        out = dict(enumerate(out if isinstance(out, tuple | list) else [out]))
    found = {str(key): value for key, value in out.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise PockError(f"the model returns no tensor but {', '.join(map(str, out)) or 'nothing'}")
    return found

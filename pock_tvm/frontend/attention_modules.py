"""Export the modules that call attention as if they trained, so that it keeps its dropout.

A fused attention is no module of its own: whoever calls it hands over a probability, and 0 outside
of training. So a model is exported for inference, but for the modules that call attention and hold
a dropout probability.
"""

import torch
from torch import nn


def export_for_training(
    module: nn.Module, inputs: tuple[torch.Tensor, ...]
) -> torch.export.ExportedProgram:
    """Export a module in eval mode; leaves those that drop inside attention in train mode."""
    for attention in module.modules():
        if isinstance(attention, nn.MultiheadAttention) and attention.dropout:
            attention.training = True
    program = torch.export.export(module, inputs)
    callers = _dropping_callers(program, module)
    for caller in callers:
        caller.training = True
    return torch.export.export(module, inputs) if callers else program


def _dropping_callers(program: torch.export.ExportedProgram, module: nn.Module) -> list[nn.Module]:
    """Return the modules whose own code calls a fused attention, and that name a dropout."""
    paths = set()
    for node in program.graph.nodes:
        name = str(getattr(node.target, "__name__", "")).split(".")[0]
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        if node.op == "call_function" and name == "scaled_dot_product_attention" and stack:
            paths.add(stack[-1][0])
    callers = (module.get_submodule(path) for path in sorted(paths))
    return [m for m in callers if not m.training and _names_a_dropout(m)]


def _names_a_dropout(module: nn.Module) -> bool:
    numbers = (v for k, v in vars(module).items() if "drop" in k and isinstance(v, int | float))
    inner = (m.p for m in module.children() if isinstance(m, nn.Dropout))
    return any(p > 0 for p in (*numbers, *inner))

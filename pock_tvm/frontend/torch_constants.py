"""Compute what a PyTorch program makes of constants alone: masks, positions, rotation tables.

Before:  mask = le(arange(8), unsqueeze(arange(8), 1));  where(mask, scores, lowest)
After:   where(constant, scores, lowest)

Language models compute their masks anew in each call, from booleans and integers in ways that
TVM's importer does not always take. PyTorch itself computes them here, once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.fx.node import map_arg
from tvm import relax

_STATED = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async")
"""Statements about tensors: nothing to compute."""
_REPEATING = ("expand", "repeat", "full_like", "zeros_like", "ones_like")


@torch.library.custom_op("pock_tvm::constant", mutates_args=())
def _constant(position: int) -> torch.Tensor:
    raise NotImplementedError("a marker for the importer")


def fold_constants(
    program: torch.export.ExportedProgram,
) -> Mapping[str, Callable[[Node, Any], relax.Expr]]:
    """Replace, in place, what depends on no input and no weight by its value.

    What is large by repetition alone (``full``, ``expand``) stays, over a constant.

    Returns:
        For TVM's importer: how to convert the markers that stand for the values.
    """
    values = _values(program)
    found: list[torch.Tensor] = []
    for node in reversed(list(values)):
        if node.op == "placeholder":
            continue
        if not node.users:
            node.graph.erase_node(node)
        elif not _repeats(node):
            with node.graph.inserting_before(node):
                constant = node.graph.call_function(
                    torch.ops.pock_tvm.constant.default, (len(found),)
                )
            constant.meta = dict(node.meta)
            found.append(values[node])
            node.replace_all_uses_with(constant)
            node.graph.erase_node(node)

    def convert(node: Node, importer: Any) -> relax.Expr:
        value = found[node.args[0]].detach().cpu().contiguous()
        # Without the dtype, relax.const makes float32 of float64.
        return relax.const(value.numpy(), str(value.dtype).removeprefix("torch."))

    return {"constant.default": convert}


def _values(program: torch.export.ExportedProgram) -> dict[Node, torch.Tensor]:
    """Return the nodes that depend on constants alone, in order, with their values."""
    mutated = {*program.graph_signature.buffers_to_mutate.values()}
    stored = {**program.state_dict, **program.constants}
    constant = {
        s.arg.name: stored[s.target]
        for s in program.graph_signature.input_specs
        if s.kind in (InputKind.BUFFER, InputKind.CONSTANT_TENSOR) and s.target not in mutated
    }
    values: dict[Node, torch.Tensor] = {}
    for node in list(program.graph.nodes):
        if node.op == "placeholder" and isinstance(constant.get(node.name), torch.Tensor):
            values[node] = constant[node.name]
        elif node.op == "call_function" and all(n in values for n in node.all_input_nodes):
            if node.target.__name__.split(".")[0] in _STATED:
                node.graph.erase_node(node)
            elif node.target.__name__.startswith("stop_gradient"):  # a marker of ours
                values[node] = values[node.all_input_nodes[0]]
            elif _is_function(node):
                value = node.target(
                    *map_arg(node.args, values.__getitem__),
                    **map_arg(node.kwargs, values.__getitem__),
                )
                if isinstance(value, torch.Tensor) and value.dtype != torch.bfloat16:
                    values[node] = value
    return values


def _is_function(node: Node) -> bool:
    """Return whether equal arguments give equal results, and nothing else happens."""
    target = node.target
    return (
        isinstance(target, torch._ops.OpOverload)
        and target.namespace == "aten"
        and not target._schema.is_mutable
        and torch.Tag.nondeterministic_seeded not in target.tags
    )


def _repeats(node: Node) -> bool:
    """Return whether a value is large by repetition alone: cheaper to make than to keep."""
    return not node.all_input_nodes or node.target.__name__.split(".")[0] in _REPEATING

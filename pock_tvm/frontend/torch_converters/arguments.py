"""Read the arguments of exported operators; trailing defaults are left out of a graph."""

from collections.abc import Sequence
from typing import Any

import torch


def arguments(node: torch.fx.Node, importer: Any, *defaults: Any) -> list[Any]:
    """Return the operands of a node, and as many of the last ``defaults`` as it leaves out.

    Args:
        node: an operator of the exported graph.
        importer: knows what its operands have become.
        defaults: of the operator's last parameters, in order; the other parameters are required.
    """
    given = list(importer.retrieve_args(node))
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else []
    whole = given + list(defaults)[len(defaults) - (len(names) - len(given)) :]
    for name, value in node.kwargs.items():
        if name in names:
            whole[names.index(name)] = importer.env.get(value, value)
    return whole


def each(values: int | Sequence[int], axes: int) -> list[int]:
    """Return one number per axis; PyTorch gives a single one for all of them too."""
    numbers = [values] if isinstance(values, int) else list(values)
    return numbers * axes if len(numbers) == 1 else numbers

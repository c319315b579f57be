"""Layers that are functions of float tensors and of constant ones: indices, masks."""

from collections.abc import Callable
from typing import Any

import torch
from layer_tables import Layer, Shape
from torch import nn


class At(nn.Module):
    """A function at constant tensors, which are buffers of the module."""

    def __init__(self, function: Callable[..., Any], *constants: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        self.constants = len(constants)
        for i, constant in enumerate(constants):
            self.register_buffer(f"constant{i}", constant, persistent=False)

    def forward(self, *xs: torch.Tensor) -> Any:
        constants = [getattr(self, f"constant{i}") for i in range(self.constants)]
        return self.function(*xs, *constants)


def function_layer(
    name: str,
    function: Callable[..., Any],
    *shapes: Shape,
    at: tuple[torch.Tensor, ...] = (),
    **options: Any,
) -> Layer:
    """Return a layer of a function that takes its float inputs, then the constants ``at``.

    Without ``shapes`` there is one input, a cuboid.
    """
    return Layer(name, At(function, *at), shapes or ((3, 4, 5),), **options)


def ints(*values: Any) -> torch.Tensor:
    """Return constant indices."""
    return torch.tensor(values)

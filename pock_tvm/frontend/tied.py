"""Tensors that a model holds under several names: tied embeddings and heads."""

from collections.abc import Iterable, Mapping

import torch


def tied_names(names: Iterable[str], tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return, for every further name of a tensor, the name that comes first.

    Args:
        names: in the order of the model.
        tensors: by name; two that lie in the same memory, the same way, are one.
    """
    first: dict[tuple[object, ...], str] = {}
    aliases = {}
    for name in names:
        tensor = tensors[name]
        if tensor.numel():
            place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
            if first.setdefault(place, name) != name:
                aliases[name] = first[place]
    return aliases

"""Parameters of the zoo's models at full size, read off the modules: nothing is allocated."""

import functools

import torch
from torch import nn

from pock_tvm.frontend.zoo import build_zoo_model
from pock_tvm.update import Parameter


@functools.cache
def zoo_parameters(name: str) -> tuple[Parameter, ...]:
    """Return what ``parameters_of`` finds in the imported model, in its order."""
    with torch.device("meta"):  # shapes without values
        module, _ = build_zoo_model(name)
    names: dict[torch.Tensor, list[str]] = {}
    for key, value in module.named_parameters(remove_duplicate=False):
        names.setdefault(value, []).append(key)
    return tuple(
        _parameter(module, key, tuple(aliases), value) for value, (key, *aliases) in names.items()
    )


def _parameter(
    module: nn.Module, name: str, aliases: tuple[str, ...], value: torch.Tensor
) -> Parameter:
    shape = tuple(value.shape)
    owner, _, leaf = name.rpartition(".")
    layer = module.get_submodule(owner)
    kind = type(layer).__name__
    if leaf == "weight" and isinstance(layer, nn.Conv2d):
        if layer.groups > 1:
            return Parameter(
                name=name, shape=shape, reader="depthwise", input_axis=0, groups=layer.groups
            )
        return Parameter(
            name=name,
            shape=shape,
            reader="conv",
            input_axis=1,
            output_axis=0,
            pointwise=layer.kernel_size == (1, 1),
        )
    if leaf == "weight" and kind in ("Linear", "Conv1D"):  # GPT-2's Conv1D is [in, out]
        inner = 1 if kind == "Linear" else 0
        return Parameter(
            name=name, shape=shape, reader="linear", input_axis=inner, output_axis=1 - inner
        )
    if leaf == "weight" and isinstance(layer, nn.Embedding):
        tied = any("head" in alias for alias in aliases)
        return Parameter(
            name=name, shape=shape, reader="embedding", is_output_layer=tied, aliases=aliases
        )
    return Parameter(name=name, shape=shape, aliases=aliases)

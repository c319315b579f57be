"""Batch norms folded into the convolutions before them, as peers at their best run a frozen one."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any


def fold_batch_norms(
    module: Any, example: tuple[Any, ...], learns: Iterable[str]
) -> tuple[str, ...]:
    """Fold every batch norm that reads a convolution's output into it, in place.

    A net that is folded computes the same function of fewer parameters, so its first loss is the
    same and those after an update are not: scale and weight learn as one product.

    Args:
        module: in eval mode, so that the norms' statistics are constants.
        example: its inputs, for one run that shows which norm reads which convolution.
        learns: names of the parameters that learn.

    Returns:
        The names of the folded module's parameters that learn: a weight where the convolution's or
        the norm's scale did, a bias where either bias did.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    learning = set(learns)
    names = {m: n for n, m in module.named_modules()}
    for convolution, norm in _pairs(module, example):
        weight, bias = f"{names[convolution]}.weight", f"{names[convolution]}.bias"
        old = {weight, bias, f"{names[norm]}.weight", f"{names[norm]}.bias"}
        if learning & {weight, f"{names[norm]}.weight"}:
            learning.add(weight)
        if learning & {bias, f"{names[norm]}.bias"}:
            learning.add(bias)
        learning -= old - {weight, bias}
        _replace(module, names[convolution], fuse_conv_bn_eval(convolution, norm))
        _replace(module, names[norm], nn.Identity())
    return tuple(n for n, _ in module.named_parameters() if n in learning)


def _pairs(module: Any, example: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    import torch

    made: list[tuple[Any, Any]] = []
    found = []
    with _watching(module, made, found), torch.no_grad():
        module(*example)
    return found


@contextlib.contextmanager
def _watching(
    module: Any, made: list[tuple[Any, Any]], found: list[tuple[Any, Any]]
) -> Iterator[None]:
    from torch import nn

    def after_convolution(convolution: Any, _: Any, output: Any) -> None:
        made.append((convolution, output))

    def before_norm(norm: Any, inputs: tuple[Any, ...]) -> None:
        found.extend((conv, norm) for conv, output in made if output is inputs[0])

    hooks = []
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            hooks.append(part.register_forward_hook(after_convolution))
        elif isinstance(part, nn.BatchNorm2d):
            hooks.append(part.register_forward_pre_hook(before_norm))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replace(module: Any, name: str, new: Any) -> None:
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, new)

"""Models by name with random weights: from ``transformers`` configurations, or defined here.

Each has a small form of the same architecture, for tests and first tries: ``zoo:resnet50@small``.
"""

import difflib
from typing import Protocol

import torch

from pock_tvm.errors import PockError, UnknownNameError
from pock_tvm.frontend.zoo.decoders import gpt2, llama_small
from pock_tvm.frontend.zoo.dual_encoder import clip
from pock_tvm.frontend.zoo.encoders import bert_base, distilbert
from pock_tvm.frontend.zoo.inverted_bottlenecks import efficientnet_lite0, mcunet, proxyless
from pock_tvm.frontend.zoo.pictures import (
    mobilenet_v2,
    mobilenet_v2_035,
    resnet50,
    vit_base,
    vit_tiny,
)

__all__ = ["ZOO", "Built", "build_zoo_model", "zoo_lines"]

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]
SMALL = "@small"


class Builder(Protocol):
    """A function of this package; its docstring's first line describes the model."""

    def __call__(self, *, small: bool = False) -> Built:
        """Return a module with random weights, and example inputs for one sample."""


ZOO: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        mcunet,
        proxyless,
        mobilenet_v2,
        mobilenet_v2_035,
        resnet50,
        efficientnet_lite0,
        vit_tiny,
        vit_base,
        bert_base,
        distilbert,
        llama_small,
        gpt2,
        clip,
    )
}


def zoo_lines() -> dict[str, str]:
    """Return a line about each model."""
    return {name: (build.__doc__ or "").partition("\n")[0] for name, build in ZOO.items()}


def build_zoo_model(name: str, seed: int = 0, *, small: bool = False) -> Built:
    """Build a model with weights drawn from ``seed``, and example inputs for one sample.

    Args:
        name: a key of ``ZOO``; ``@small`` behind it asks for the small form too.
        seed: of the weights.
        small: the small form; the docstring of the model says what is smaller.

    Raises:
        UnknownNameError: the zoo has no such model.
        PockError: ``transformers`` is not installed.
    """
    small = small or name.endswith(SMALL)
    name = name.removesuffix(SMALL)
    if name not in ZOO:
        near = difflib.get_close_matches(name, ZOO, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(ZOO)}"
        raise UnknownNameError(f"the zoo has no model {name!r}{hint}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return ZOO[name](small=small)
        except ModuleNotFoundError as error:
            raise PockError(
                f"zoo:{name} needs {error.name}; install it with: pip install 'pock-tvm[zoo]'"
            ) from error

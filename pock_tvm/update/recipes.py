"""``--update preset``: PockEngine's recipe for the architecture (Zhu et al. 2023), as data.

An architecture is known by the names of its parameters, so that a recipe holds for anybody's
checkpoint of it. Blocks count from the end; a model of fewer blocks gives all it has. The head
always learns, which means the embedding too where both are one tensor.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pock_tvm.errors import UnknownNameError
from pock_tvm.update.blocks import blocks_of
from pock_tvm.update.scheme import Rule, UpdateScheme


@dataclass(frozen=True)
class Weights:
    """Weights that learn: of the last blocks, or of one block counted from the end (1 is last)."""

    what: tuple[str, ...]
    last: int = 0
    from_end: int = 0
    channels: Fraction = Fraction(1)


@dataclass(frozen=True)
class Recipe:
    """What learns of one architecture."""

    name: str
    known_by: tuple[str, ...]
    """Patterns; a model that has parameters under all of them is meant."""
    biases: int
    """Last blocks whose biases learn, with those behind them."""
    weights: tuple[Weights, ...]
    head: tuple[str, ...] = ()
    """Patterns of what learns whole; where a model has none of it, its head by ``head_names``."""
    towers: tuple[str, ...] = ("*",)
    """Patterns of the parts of a model whose blocks count apart."""
    shifts: tuple[str, ...] = ("bias",)
    """Selectors of what the paper calls biases."""


_FIRST_CONV = ("first_conv",)
_ATTENTION_AND_FFN = ("attention", "first_ffn")
_BERT = (Weights(_ATTENTION_AND_FFN, last=4),)

RECIPES = (
    # The paper says "four intermediate blocks" and not which; here the middle of the last seven.
    Recipe(
        "mcunet",
        ("*.mobile_inverted_conv.*",),
        7,
        (
            Weights(_FIRST_CONV, from_end=6),
            Weights(_FIRST_CONV, from_end=5),
            Weights(_FIRST_CONV, from_end=4, channels=Fraction(1, 2)),
            Weights(_FIRST_CONV, from_end=3),
        ),
    ),
    Recipe("mobilenet_v2", ("*.expand_1x1.*",), 7, (Weights(_FIRST_CONV, last=7),)),
    # torchvision numbers the last convolution and the first like blocks.
    Recipe(
        "mobilenet_v2",
        ("features.*.conv.*",),
        7,
        (Weights(_FIRST_CONV, last=7),),
        head=("features.18.*.bias", "classifier.*"),
        towers=("features.*.conv.*",),
    ),
    Recipe("resnet50", ("*stages.*.layers.*.layer.2.*",), 8, (Weights(_FIRST_CONV, last=8),)),
    Recipe("resnet50", ("layer4.*.conv3.*",), 8, (Weights(_FIRST_CONV, last=8),)),
    Recipe(
        "clip",
        ("*text_model.*", "*vision_model.*"),
        6,
        _BERT,
        head=("*visual_projection.weight", "*text_projection.weight"),
        towers=("*text_model.*", "*vision_model.*"),
    ),
    Recipe(
        "distilbert",
        ("*.q_lin.*",),
        3,
        (Weights(_ATTENTION_AND_FFN, last=2),),
        head=("*classifier.*",),
    ),
    Recipe(
        "llama",
        ("*.gate_proj.*",),
        5,
        (Weights(_ATTENTION_AND_FFN, last=5),),
        shifts=("bias", "norm"),
    ),
    Recipe("gpt2", ("*.c_attn.*",), 6, _BERT),
    Recipe("bert", ("*.attention.*.query.*",), 6, _BERT),
    Recipe("vit", ("*patch_embed*", "*attention.*"), 6, _BERT),
)


def preset(parameters: Sequence[str]) -> UpdateScheme:
    """Return the scheme of the recipe for a model's architecture.

    Args:
        parameters: names of the model's trainable parameters, in the model's order.

    Raises:
        UnknownNameError: no recipe knows the architecture.
    """
    for recipe in RECIPES:
        if all(fnmatch.filter(parameters, pattern) for pattern in recipe.known_by):
            return _scheme(recipe, parameters)
    known = ", ".join(dict.fromkeys(recipe.name for recipe in RECIPES))
    raise UnknownNameError(
        f"no preset knows this architecture; known are {known}; write --update bias or last:N"
    )


def _scheme(recipe: Recipe, parameters: Sequence[str]) -> UpdateScheme:
    rules: list[Rule] = []
    for tower in recipe.towers:
        names = fnmatch.filter(parameters, tower)
        count = len(blocks_of(names))
        last = f"last {min(recipe.biases, count)}"
        rules.append(Rule(what=recipe.shifts, match=(tower,), blocks=last))
        for weights in recipe.weights:
            if weights.from_end > count:
                continue
            here = count - weights.from_end
            rules.append(
                Rule(
                    what=weights.what,
                    match=(tower,),
                    blocks=(here,) if weights.from_end else f"last {min(weights.last, count)}",
                    channels=weights.channels,
                )
            )
    whole = tuple(pattern for pattern in recipe.head if fnmatch.filter(parameters, pattern))
    if not whole:
        rules.append(Rule(what=("head",)))
    return UpdateScheme(name="preset", trainable=whole, rules=tuple(rules))

"""An update scheme: what of a model learns, and how much of it. Data, readable as TOML.

docs/update-schemes.md explains every key with an example.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from pock_tvm.errors import PockError, UnknownNameError
from pock_tvm.update.blocks import Blocks
from pock_tvm.update.patterns import matches

Pick = Literal["magnitude", "magnitude-", "random"]
"""Which channels learn: those of the largest norm, of the smallest, or drawn from the seed."""

Embeddings = Literal["exact", "lazy-rows"]
"""How tables are updated: as the optimizer says, or only in the rows that a batch has read."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Parameters that learn: of a kind, under a name, in some blocks, in some channels."""

    what: tuple[str, ...] = ("all",)
    """Selectors; a parameter that any of them names is meant."""
    match: tuple[str, ...] = ("*",)
    """Name patterns; blocks are counted among what they match."""
    blocks: Blocks | None = None
    channels: Fraction = Fraction(1)
    """Share of the input channels of each weight that learns."""

    def __post_init__(self) -> None:
        if not 0 < self.channels <= 1:
            raise PockError(f"channels is {self.channels}; it must be above 0 and at most 1")

    def describe(self) -> dict[str, Any]:
        """Return the rule as plain data."""
        blocks = list(self.blocks) if isinstance(self.blocks, tuple) else self.blocks
        return {
            "what": list(self.what),
            "match": list(self.match),
            "blocks": blocks,
            "channels": str(self.channels),
        }


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adaptation (Hu et al. 2021): y = x @ W + alpha / rank · (x @ A) @ B, W frozen."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    """Selectors or name patterns of the weights."""
    blocks: Blocks | None = None
    seed: int = 0
    """Of A; B begins at zero."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise PockError(f"the rank of LoRA is {self.rank}; it must be at least 1")
        if not self.alpha > 0:
            raise PockError(f"alpha of LoRA is {self.alpha}; it must be above 0")
        if not self.targets:
            raise PockError("LoRA has no targets; name selectors such as 'attention', or patterns")

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.alpha / self.rank

    def describe(self) -> dict[str, Any]:
        """Return the adaptation as plain data."""
        blocks = list(self.blocks) if isinstance(self.blocks, tuple) else self.blocks
        return {
            "rank": self.rank,
            "alpha": self.alpha,
            "targets": list(self.targets),
            "blocks": blocks,
            "seed": self.seed,
        }


@dataclass(frozen=True, kw_only=True)
class UpdateScheme:
    """What learns: name patterns, then rules (a later one decides), then factors of LoRA.

    A pattern has ``*`` for any characters, dots too.
    """

    name: str
    trainable: tuple[str, ...] = ()
    """Patterns of the parameters that learn whole."""
    frozen: tuple[str, ...] = ()
    """Taken out again from what all others name."""
    rules: tuple[Rule, ...] = ()
    lora: tuple[LoRA, ...] = ()
    pick: Pick = "magnitude"
    seed: int = 0
    """Of ``pick = "random"``."""
    embeddings: Embeddings = "exact"

    def select(self, parameters: Sequence[str]) -> tuple[str, ...]:
        """Return the names that learn, in the order of ``parameters``; of patterns alone.

        Raises:
            UnknownNameError: a pattern matches nothing; the message offers near matches.
        """
        if self.rules or self.lora:
            raise ValueError("rules and LoRA need the model's graph: use resolve")
        chosen: set[str] = set()
        for pattern in self.trainable:
            chosen.update(matches(pattern, parameters, self.name))
        for pattern in self.frozen:
            chosen.difference_update(matches(pattern, parameters, self.name))
        if not chosen:
            raise nothing_to_train(self.name)
        return tuple(name for name in parameters if name in chosen)

    def describe(self) -> dict[str, Any]:
        """Return the scheme as plain data for the manifest."""
        return {
            "name": self.name,
            "trainable": list(self.trainable),
            "frozen": list(self.frozen),
            "update": [rule.describe() for rule in self.rules],
            "lora": [lora.describe() for lora in self.lora],
            "pick": self.pick,
            "seed": self.seed,
            "embeddings": self.embeddings,
        }


def nothing_to_train(scheme: str) -> UnknownNameError:
    """Return the error of a scheme that freezes all."""
    return UnknownNameError(
        f"update scheme {scheme!r} leaves nothing to train; loosen its frozen patterns"
    )

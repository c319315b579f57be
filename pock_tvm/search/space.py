"""What a search chooses from: a number of last biases, and a ratio for each weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.update import Parameter, Rule, UpdateScheme, head_names
from pock_tvm.update.selectors import SELECTORS

RATIOS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))


@dataclass(frozen=True)
class Choice:
    """One scheme of a space, as numbers."""

    biases: int
    """How many of the last biases learn."""
    ratios: tuple[int, ...]
    """By weight: 0 where it stays as it is, else 1 + the position of its ratio."""

    def genes(self) -> np.ndarray:
        """Return the choice as one row of a population."""
        return np.array([self.biases, *self.ratios], np.int16)

    @classmethod
    def of(cls, genes: Sequence[int] | np.ndarray) -> "Choice":
        """Read a row of a population."""
        first, *others = map(int, genes)
        return cls(first, tuple(others))


@dataclass(frozen=True)
class Space:
    """Every scheme that a search may propose. Names are the model's own, in its order."""

    weights: tuple[str, ...]
    biases: tuple[str, ...]
    always: tuple[str, ...]
    """What every scheme trains whole: the head."""
    depths: tuple[int, ...]
    """By weight: how many of the last biases stand behind it, its own layer's among them."""
    ratios: tuple[Fraction, ...] = RATIOS

    @classmethod
    def of(cls, parameters: Sequence[Parameter]) -> "Space":
        """Read the space off a model: weights of linear layers and convolutions, and biases.

        Raises:
            UnsupportedModelError: there is nothing to choose beside the head.
        """
        head = {n for p in parameters for n in p.names if p.names and n in head_names(parameters)}
        inside = [p for p in parameters if p.learnable and not head & set(p.names)]
        bias_names = {p.name for p in SELECTORS["bias"](inside)}
        biases = [p for p in inside if p.name in bias_names]
        weights = [p for p in inside if p.is_matrix and p.input_axis is not None]
        if not weights and not biases:
            raise UnsupportedModelError(
                "the model has neither weights nor biases before its head: nothing to search"
            )
        place = {p.name: i for i, p in enumerate(parameters)}
        return cls(
            weights=tuple(p.name for p in weights),
            biases=tuple(p.name for p in biases),
            always=tuple(p.name for p in parameters if p.learnable and head & set(p.names)),
            depths=tuple(sum(place[b.name] > place[w.name] for b in biases) for w in weights),
        )

    @property
    def extents(self) -> np.ndarray:
        """How many values each gene may take."""
        return np.array([len(self.biases) + 1, *[len(self.ratios) + 1] * len(self.weights)])

    @property
    def nothing(self) -> Choice:
        """The head alone."""
        return Choice(0, (0,) * len(self.weights))

    def with_weight(self, weight: int, ratio: int, biases: int = 0) -> Choice:
        """Return the choice of one weight, and some last biases."""
        ratios = [0] * len(self.weights)
        ratios[weight] = ratio
        return Choice(biases, tuple(ratios))

    def singles(self) -> dict[str, Choice]:
        """Return every choice of one thing alone, by a name for people."""
        found = {"head": self.nothing}
        for count in range(1, len(self.biases) + 1):
            found[f"last {count} biases"] = Choice(count, self.nothing.ratios)
        for index, weight in enumerate(self.weights):
            for position, ratio in enumerate(self.ratios, 1):
                found[f"{weight} at {ratio}"] = self.with_weight(index, position)
        return found

    def scheme(self, choice: Choice, name: str = "searched") -> UpdateScheme:
        """Return a choice as an update scheme."""
        last = self.biases[len(self.biases) - choice.biases :]
        rules = [
            Rule(match=(weight,), channels=self.ratios[ratio - 1])
            for weight, ratio in zip(self.weights, choice.ratios, strict=True)
            if ratio
        ]
        return UpdateScheme(name=name, trainable=(*self.always, *last), rules=tuple(rules))

    def in_words(self, choice: Choice) -> str:
        """Say what a choice trains."""
        parts = ["the head"]
        if choice.biases:
            parts.append(f"the last {choice.biases} of {len(self.biases)} biases")
        for weight, ratio in zip(self.weights, choice.ratios, strict=True):
            if ratio:
                share = self.ratios[ratio - 1]
                parts.append(weight if share == 1 else f"{share} of {weight}")
        return ", ".join(parts)

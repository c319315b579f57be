"""A case of test_rules.py, and what several families of cases need to write theirs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One operator at one set of operand shapes; integer operands are constants inside ``op``."""

    name: str
    op: Callable[..., relax.Expr]
    shapes: tuple[Shape, ...]
    low: float = -2.0
    high: float = 2.0
    torch: Callable[..., Any] | None = None

    def operands(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [rng.uniform(self.low, self.high, shape) for shape in self.shapes]


def ints(values: Any) -> relax.Expr:
    return relax.const(np.asarray(values), "int64")


def mask(values: Any) -> relax.Expr:
    return relax.const(np.asarray(values, "bool"))


def number(value: float) -> relax.Expr:
    return relax.const(value, "float64")


M = ((3, 4),)
"""One matrix."""


def channels_first(x):
    return x.permute(0, 3, 1, 2)


def channels_last(x):
    return x.permute(0, 2, 3, 1)
